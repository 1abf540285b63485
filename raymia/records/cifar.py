"""CIFAR-10 and CIFAR-100 by torchvision, training and test images together (Krizhevsky 2009)."""

import os
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from raymia.errors import InputError
from raymia.records.copies import distinct_records
from raymia.records.dataset import Records

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CIFAR_RECORDS = 60_000


def data_root() -> Path:
    """Where downloaded data stay: RAYMIA_DATA, else `raymia/data` in the user's cache folder."""
    if chosen := os.environ.get("RAYMIA_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raymia" / "data"


def cifar_records(dataset: str, limit: int | None, root: Path | None) -> Records:
    """`cifar10` or `cifar100` (fine labels) as uint8[N, 32, 32, 3]: the 50,000 training images, then the test images.

    root: the folder that holds them, or into which they are downloaded (None: `data_root()`). Raises InputError where
    they are absent and cannot be downloaded.
    """
    parts = [_part(dataset, root or data_root(), train) for train in (True, False)]
    pixels = np.concatenate([part.data for part in parts])[:limit]
    labels = np.concatenate([np.asarray(part.targets, dtype=np.int64) for part in parts])[:limit]
    ids = np.arange(len(labels), dtype=np.int64)
    source = f"{TITLES[dataset]} (torchvision, training and test images)"
    return distinct_records(dataset, pixels, labels, ids, tuple(parts[0].classes), source)


def _part(dataset: str, root: Path, train: bool) -> Any:
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[dataset]
    with warnings.catch_warnings():
        # CIFAR's pickles were written by Python 2, where a flag of the array type was an integer.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed as Python or NumPy boolean")
        try:
            return kind(root, train=train)
        except RuntimeError:  # torchvision's word for "not found or corrupted"
            pass
        try:
            return kind(root, train=train, download=True)
        except (OSError, RuntimeError, tarfile.TarError, EOFError) as error:
            raise InputError(
                f"dataset {dataset}: not in {root} and not downloaded ({' '.join(str(error).split())}): connect to the "
                "internet once, set RAYMIA_DATA to a folder that has it, or give it as a Parquet file"
            ) from error
