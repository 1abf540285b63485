"""The stream over the cluster gives what one process gives, in bounded memory, and gets in nobody's way."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from raymia.diffusion.drawing import draw_set
from raymia.diffusion.synthetic_set import SyntheticSet
from raymia.engine.conveyor import draw_on_cluster
from raymia.errors import DivergedError, RunError
from raymia.store import Store
from tests.diffusion.stubs import Stages, job
from tests.engine.streams import SHARDS, Held, Meeting, NotingThreads, every


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray with two CPUs, for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def everything_is_given_back(cluster: None) -> Iterator[None]:
    """However a stream ended, its actors end too."""
    yield
    await_free_cpus()


def await_free_cpus() -> None:
    """Wait until nothing holds a CPU; fails where something goes on holding one."""
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2


@pytest.fixture
def notes(tmp_path: Path) -> str:
    return str(tmp_path / "notes")


@pytest.fixture
def expected(tmp_path: Path) -> tuple[SyntheticSet, dict[str, bytes]]:
    """The set of `every`, and its files, as one process makes them."""
    store = Store(str(tmp_path / "expected"))
    return draw_set(store, every(Stages(str(tmp_path / "others")))), contents(store)


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read_file(name) for name, _ in store.names()}


class Collect(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_one_sampler_gives_the_same_files_with_its_threads(tmp_path: Path, notes: str, expected: Any) -> None:
    """Of two threads each, a machine of two CPUs has room for one."""
    stages, store = NotingThreads(notes), Store(str(tmp_path / "here"))
    found = draw_set(store, replace(every(stages), threads=2), draw_on_cluster)
    assert (found, contents(store)) == expected
    assert stages.sampled() == [32 * number for number in range(SHARDS)]
    for stage in ("sampler", "judge"):
        assert len(stages.seen(f"{stage}-threads-2-")) == len(stages.seen(f"{stage}-threads-")) == SHARDS
    assert len(stages.seen("made-sampler")) == 1


def test_two_samplers_meet_a_quota_with_the_same_files_quietly(tmp_path: Path, notes: str) -> None:
    alone, store = Store(str(tmp_path / "alone")), Store(str(tmp_path / "here"))
    expected = draw_set(alone, job(Stages(str(tmp_path / "others"))))
    handler = Collect()
    logging.getLogger("ray.data").addHandler(handler)
    try:
        found = draw_set(store, job(Stages(notes)), draw_on_cluster)
    finally:
        logging.getLogger("ray.data").removeHandler(handler)
    assert found == expected
    assert contents(store).items() >= contents(alone).items()
    assert handler.messages == []


def test_judging_goes_on_while_the_next_shards_are_sampled(tmp_path: Path, notes: str) -> None:
    stages = Meeting(notes)
    store = Store(str(tmp_path / "here"))
    list(draw_on_cluster(range(4), job(stages, threads=2), store))
    assert len(contents(store)) == 4


def test_a_slow_judge_stops_the_samplers_soon(tmp_path: Path, notes: str) -> None:
    """Three hundred shards are asked for; with the judge held on, a few are sampled, and then no more."""
    stages, store = Held(notes), Store(str(tmp_path / "here"))
    held = job(stages, per_class=None, max_images=300 * 32)
    drawing = ray.remote(num_cpus=0)(lambda: len(list(draw_on_cluster(range(300), held, store)))).remote()
    before, now = -1, 0
    deadline = time.monotonic() + 300
    while (before != now or not now) and time.monotonic() < deadline:
        time.sleep(3)
        before, now = now, len(stages.sampled())
    assert 0 < now <= 40
    Path(notes, "go").touch()
    assert ray.get(drawing, timeout=300) == 300
    assert len(stages.sampled()) == 300


def test_two_streams_in_tasks_beside_a_busy_one_on_two_processors(tmp_path: Path, notes: str, expected: Any) -> None:
    busy_until = Path(tmp_path, "both are done")

    @ray.remote(num_cpus=1, scheduling_strategy="DEFAULT")
    def busy() -> bool:
        deadline = time.monotonic() + 400
        while not busy_until.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return busy_until.exists()

    @ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")
    def draw(number: int) -> SyntheticSet:
        return draw_set(Store(str(tmp_path / f"here{number}")), every(Stages(f"{notes}{number}")), draw_on_cluster)

    holding = busy.remote()
    streams = [draw.remote(number) for number in range(2)]
    try:
        assert ray.get(streams, timeout=300) == [expected[0]] * 2
    finally:
        busy_until.touch()
    assert ray.get(holding)
    assert [contents(Store(str(tmp_path / f"here{number}"))) for number in range(2)] == [expected[1]] * 2


def test_a_sampler_that_is_killed_is_replaced(tmp_path: Path, notes: str, expected: Any) -> None:
    stages, store = Stages(notes, die_at=96, deaths=2), Store(str(tmp_path / "here"))
    assert draw_set(store, every(stages), draw_on_cluster) == expected[0]
    assert contents(store) == expected[1]
    assert len(stages.seen("sample-96-")) == 3


def test_a_shard_that_kills_every_sampler_ends_the_drawing(tmp_path: Path, notes: str) -> None:
    stages = Stages(notes, die_at=32, deaths=1000)
    with pytest.raises(RunError, match="a worker failed while it drew images") as caught:
        draw_set(Store(str(tmp_path / "here")), every(stages), draw_on_cluster)
    assert "\n" not in str(caught.value)
    assert len(stages.seen("sample-32-")) < 10


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("lost\nfor ever"), RunError, r"^a worker failed while it drew images: ValueError: lost$"),
        (DivergedError("the loss is nan"), DivergedError, r"^the loss is nan$"),
    ],
)
def test_an_error_in_a_stage_is_one_clear_line(
    tmp_path: Path, notes: str, error: Exception, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        draw_set(Store(str(tmp_path / "here")), every(Stages(notes, fail=error)), draw_on_cluster)


def test_a_stream_that_is_closed_early_frees_the_machine(tmp_path: Path, notes: str) -> None:
    stages = Stages(notes)
    endless = job(stages, per_class=None, max_images=3000 * 32)
    stream = draw_on_cluster(range(3000), endless, Store(str(tmp_path / "here")))
    next(stream)
    stream.close()
    await_free_cpus()
    before = len(stages.sampled())
    time.sleep(1)
    assert len(stages.sampled()) == before < 3000


KILLED = """
import os, signal, sys
import ray
from raymia.diffusion.drawing import draw_set
from raymia.engine.conveyor import draw_on_cluster
from raymia.store import Store
from tests.diffusion.stubs import Stages, job

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

def die_at_the_third(numbers, job, store):
    for done, report in enumerate(draw_on_cluster(numbers, job, store)):
        if done == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield report

stages = Stages(sys.argv[2])
draw_set(Store(sys.argv[1]), job(stages, per_class=None, max_images=224), die_at_the_third)
"""


@pytest.mark.slow
def test_killed_whole_and_started_again_it_goes_on(tmp_path: Path, notes: str, expected: Any) -> None:
    store = Store(str(tmp_path / "here"))
    killed = subprocess.run([sys.executable, "-c", KILLED, store.root, notes], timeout=300, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stages = Stages(notes)
    time.sleep(5)  # what the killed Ray leaves behind ends by itself
    finished = {name: content for name, content in contents(store).items() if name.endswith(".parquet")}
    assert len(finished) >= 3
    assert draw_set(store, every(stages), draw_on_cluster) == expected[0]
    found = contents(store)
    assert {name: found[name] for name in expected[1]} == expected[1]
    for name in finished:
        first = int(Path(name).stem) * 32
        assert len(stages.seen(f"sample-{first}-")) == 1
