"""`python -m raymia`: the same as the `raymia` script."""

from raymia.cli import main

main()
