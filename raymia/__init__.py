"""raymia: measure, defend and search the membership privacy of image classifiers."""

__version__ = "0.1.0"
