"""Stages without networks: an image is a function of its id, its verdict a function of the image."""

import os
import signal
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymia.diffusion.drawing import ShardJob, Stage
from raymia.diffusion.filter import Filter
from raymia.diffusion.shards import conditions_of, images_of, with_images, with_verdicts

SHAPE = (4, 3, 2)
CLASSES = 3
RULE = Filter("agree", 0.6)


def pictures(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """uint8[n, 4, 3, 2] by the number alone."""
    return np.stack([np.random.default_rng(int(number)).integers(0, 256, SHAPE, dtype=np.uint8) for number in ids])


def logits_of(images: NDArray[np.uint8], conditions: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """float32[n, 3]: mostly the condition, as sure as the image's first pixel is bright."""
    flat = images.reshape(len(images), -1).astype(np.int64)
    guesses = flat[:, 1] % CLASSES
    labels = guesses if conditions is None else np.where(flat[:, 2] < 200, conditions, guesses)
    logits_NK = np.zeros((len(images), CLASSES), dtype=np.float32)
    logits_NK[np.arange(len(images)), labels] = flat[:, 0] / 50
    return logits_NK


@dataclass(frozen=True)
class Stages:
    """Makes both stages. folder: where each leaves a file for each shard it worked on.

    die_at: the first id of the shard at whose sampling the process kills itself, as often as `deaths` says. fail: the
    error that judging raises. mute: a class that never passes.
    """

    folder: str
    rule: Filter = RULE
    die_at: int | None = None
    deaths: int = 1
    fail: Exception | None = None
    mute: int | None = None

    def sample(self) -> Stage:
        """The sampling stage."""
        self.note("made-sampler")

        def stage(asked: pa.Table) -> pa.Table:
            first = asked["id"][0].as_py()
            self.note(f"sample-{first}")
            if first == self.die_at and len(self.seen(f"sample-{first}-")) <= self.deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            return with_images(asked, pictures(asked["id"].to_numpy()))

        return stage

    def judge(self) -> Stage:
        """The judging stage."""
        self.note("made-judge")

        def stage(drawn: pa.Table) -> pa.Table:
            self.note(f"judge-{drawn['id'][0].as_py()}")
            if self.fail is not None:
                raise self.fail
            conditions = conditions_of(drawn)
            logits_NK = logits_of(images_of(drawn, SHAPE), conditions)
            if self.mute is not None:
                logits_NK[:, self.mute] = -9
            return with_verdicts(drawn, self.rule.judge(logits_NK, conditions))

        return stage

    def note(self, what: str) -> None:
        """Leave a file."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        Path(self.folder, f"{what}-{os.getpid()}-{uuid.uuid4().hex[:8]}").touch()

    def seen(self, start: str) -> list[str]:
        """The files left that begin so."""
        return sorted(path.name for path in Path(self.folder).glob(f"{start}*"))

    def sampled(self) -> list[int]:
        """First ids of the shards sampled, as often as they were."""
        return sorted(int(name.split("-")[1]) for name in self.seen("sample-"))


def job(stages: Stages, **changes: Any) -> ShardJob:
    """A quota of 40 images of each of 3 classes, from shards of 32; about every second passes."""
    plain = ShardJob(
        folder="synthetic/a",
        key="0123456789abcdef",
        shard_size=32,
        shape=SHAPE,
        classes=CLASSES,
        conditional=True,
        per_class=40,
        max_images=2000,
        sample_stage=stages.sample,
        judge_stage=stages.judge,
        metadata={"generator": "g", "classifier": "c", "seed": "7", "guidance": "1.8"},
    )
    return replace(plain, **changes)
