"""Data sets: what a study trains on and attacks, and the membership plans over them."""

from raymia.records.dataset import Records
from raymia.records.sources import check_source, load_records

__all__ = ["Records", "check_source", "load_records"]
