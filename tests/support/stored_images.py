"""Images in a file, which says who read how much of them."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raymia.training.rows import Numbers


@dataclass(frozen=True)
class FileImages:
    """uint8 images in a file of their bytes. Every reading is noted in a file beside it, see `readings`."""

    path: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        images = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        # Not mapped: pages of a mapped file count as the process's memory for as long as the kernel likes.
        with Path(self.path).open("rb", buffering=0) as file:
            for image, number in zip(images, numbers, strict=True):
                file.seek(int(number) * image.nbytes)
                assert file.readinto(image) == image.nbytes
        with Path(f"{self.path}.readings").open("a") as notes:
            notes.write(f"{os.getpid()} {len(numbers)}\n")
        return images

    @property
    def readings(self) -> list[tuple[int, int]]:
        """Which process read how many images, reading by reading."""
        notes = Path(f"{self.path}.readings")
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [(int(process), int(count)) for process, count in map(str.split, lines)]


def filed(images: NDArray[np.uint8], path: Path) -> FileImages:
    """Images put into a file."""
    path.write_bytes(images.tobytes())
    return FileImages(str(path), images.shape)
