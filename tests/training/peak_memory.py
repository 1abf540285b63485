"""`python -m tests.training.peak_memory WHERE PATH SHAPE`: the memory that one epoch takes, in sizes of its set."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from raymia.models import Classifier, build_model
from raymia.training.defense import Composed, TrainingSet
from raymia.training.loop import Plan, train
from raymia.training.rows import Fetch, in_memory, in_order
from raymia.training.run import Alone
from tests.support.stored_images import FileImages
from tests.training.conftest import CLASSES, CPU, MemoryKeeper, small_config


def epoch(rows: TrainingSet, fetch: Fetch) -> None:
    """Train a perceptron for one epoch, in batches of 128."""
    _, height, width, channels = rows.inputs.shape

    def build() -> Classifier:
        return build_model("mlp", (channels, height, width), CLASSES, {"hidden": (2,)})

    config = small_config(epochs=1, batch_size=128, learning_rate=1e-3)
    train(
        build, Plan(rows, CLASSES, config, Composed(()), 0, frozenset({1}), fetch=fetch), MemoryKeeper(), Alone(), CPU
    )


def peak() -> int:
    """The most memory that this process has had, in bytes; `getrusage` counts its parent's too."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def growth(images: FileImages, gigabytes: float, fetch: Fetch) -> float:
    """What training on all the images adds to the peak of training on an eighth, as a fraction of their bytes."""
    rows = TrainingSet(images, np.arange(len(images)) % CLASSES)
    few = replace(images, shape=(len(images) // 8, *images.shape[1:]))
    epoch(TrainingSet(few, rows.labels[: len(few)]), fetch)
    before = peak()
    epoch(in_memory(rows, gigabytes), fetch)
    return (peak() - before) / math.prod(images.shape)


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, path, shape = sys.argv[1:]
    print(growth(FileImages(path, tuple(json.loads(shape))), 1.0 if where == "memory" else 0.0, in_order))
