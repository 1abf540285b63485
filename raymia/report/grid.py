"""The look of every table on a terminal."""

from rich import box
from rich.table import Table


def grid(*, header: bool = True) -> Table:
    """An empty table: a line under its header, nothing else drawn, one space between columns."""
    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False, show_header=header, header_style="bold"
    )
