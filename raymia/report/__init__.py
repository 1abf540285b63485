"""The report: figures, tables, the live view.

Everything here reads the rows of `frontier.csv` and computes no privacy metric of its own. Import from the modules:
nothing is imported here, so that a command which only checks its input does not wait for matplotlib.
"""
