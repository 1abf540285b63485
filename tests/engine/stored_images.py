"""Images on disk that misbehave on purpose; processes of Ray load them from here."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from raymia.errors import RunError
from raymia.training.defense import Defense, Stage, TrainingSet
from raymia.training.rows import Concatenated, Numbers
from tests.engine.models import once
from tests.support.stored_images import FileImages, filed


@dataclass(frozen=True)
class Late(FileImages):
    """Whoever reads image 0 waits until somebody has read image 9."""

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        read = Path(f"{self.path}.read-9")
        if 9 in numbers:
            read.touch()
        deadline = time.monotonic() + 60
        while 0 in numbers and not read.exists():
            assert time.monotonic() < deadline, "nobody reads ahead"
            time.sleep(0.01)
        return super().take(numbers)


@dataclass(frozen=True)
class Killed(FileImages):
    """Its readers are killed; once, or always."""

    always: bool = False

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        if self.always or once(str(Path(self.path).parent), "killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().take(numbers)


@dataclass(frozen=True)
class Bad(FileImages):
    """Cannot be read."""

    error: Exception = RunError()  # noqa: RUF009 - never changed

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        raise self.error


@dataclass(frozen=True)
class OnDisk(Defense):
    """Puts most of the training set into a file of `folder`, and notes the processes that train."""

    folder: str

    name: ClassVar[str] = "on_disk"
    stages: ClassVar[dict[str, Stage]] = {"folder": Stage.TRAIN}

    def training_set(self, context: Any, inputs: Any, rows: TrainingSet) -> TrainingSet:
        Path(self.folder, f"trains-{os.getpid()}").touch()
        images = filed(rows.inputs[:40], Path(self.folder, f"images-{os.getpid()}"))  # type: ignore[index, arg-type]
        return replace(rows, inputs=Concatenated((images, rows.inputs[40:])))  # type: ignore[index]
