"""Golden answers of models and the scores that every attack must give them, to check any tool against.

`python -m raymia.conformance --out FOLDER` writes them. Nothing in here but the check of raymia itself
(`raymia.conformance.own`) uses raymia's attacks: `plain` and `plain_references` are the definitions in plain loops.
"""
