"""Stub stages that meet, wait or hold on, for the tests of the stream."""

import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from raymia.diffusion.drawing import ShardJob, Stage
from tests.diffusion.stubs import Stages, job

PATIENCE = 120
SHARDS = 7


def every(stages: Stages) -> ShardJob:
    """All the images of the first seven shards that pass: drawn in one round."""
    return job(stages, per_class=None, max_images=SHARDS * 32)


@dataclass(frozen=True)
class Meeting(Stages):
    """The judge of the first shard and the sampler of the third wait until both are at work."""

    def sample(self) -> Stage:
        inner = Stages.sample(self)

        def stage(asked: pa.Table) -> pa.Table:
            drawn = inner(asked)
            if asked["id"][0].as_py() == 64:
                self.await_file("judge-0-")
            return drawn

        return stage

    def judge(self) -> Stage:
        inner = Stages.judge(self)

        def stage(drawn: pa.Table) -> pa.Table:
            judged = inner(drawn)
            if drawn["id"][0].as_py() == 0:
                self.await_file("sample-64-")
            return judged

        return stage

    def await_file(self, start: str) -> None:
        """Wait for a note of the other stage."""
        deadline = time.monotonic() + PATIENCE
        while not self.seen(start):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{start} never came")
            time.sleep(0.02)


@dataclass(frozen=True)
class Held(Stages):
    """The judge waits until the test lets go."""

    def judge(self) -> Stage:
        inner = Stages.judge(self)

        def stage(drawn: pa.Table) -> pa.Table:
            while not Path(self.folder, "go").exists():
                time.sleep(0.02)
            return inner(drawn)

        return stage


@dataclass(frozen=True)
class NotingThreads(Stages):
    """Both stages note torch's threads."""

    def sample(self) -> Stage:
        inner = Stages.sample(self)

        def stage(asked: pa.Table) -> pa.Table:
            self.note(f"sampler-threads-{torch.get_num_threads()}")
            return inner(asked)

        return stage

    def judge(self) -> Stage:
        inner = Stages.judge(self)

        def stage(drawn: pa.Table) -> pa.Table:
            self.note(f"judge-threads-{torch.get_num_threads()}")
            return inner(drawn)

        return stage
