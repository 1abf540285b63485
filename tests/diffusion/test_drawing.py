"""A drawn set is the lowest passing ids of each class, whatever was there, was killed, or was damaged before."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.diffusion.drawing import Prefix, ShardJob, draw_set, in_process, round_end
from raymia.diffusion.filter import KEPT, REASONS, Filter, Judged
from raymia.diffusion.shards import ShardReport, class_of
from raymia.diffusion.synthetic_set import SyntheticSet
from raymia.errors import InputError, RunError, ShortfallError
from raymia.store import DamagedError, Store, file_digest
from tests.diffusion.stubs import CLASSES, SHAPE, Stages, job, logits_of, pictures


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "artifacts"))


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(str(tmp_path / "notes"))


def verdicts(count: int, rule: Filter, conditional: bool = True) -> tuple[Judged, NDArray[np.int64]]:
    """Of the first ids, without shards; and the class that each counts under."""
    conditions = np.arange(count) % CLASSES if conditional else np.full(count, -1)
    judged = rule.judge(logits_of(pictures(np.arange(count)), conditions if conditional else None), conditions)
    return judged, class_of(judged.labels, conditions, judged.reason)


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read_file(name) for name, _ in store.names()}


@pytest.mark.parametrize("conditional", [True, False])
def test_the_set_is_the_lowest_passing_ids_of_each_class(store: Store, stages: Stages, conditional: bool) -> None:
    rule = stages.rule if conditional else Filter("pseudo", 0.6)
    chosen = Stages(stages.folder, rule)
    found = draw_set(store, job(chosen, conditional=conditional))
    judged, _ = verdicts(2000, rule, conditional)
    ids = np.sort(
        np.concatenate([np.flatnonzero((judged.reason == KEPT) & (judged.labels == label))[:40] for label in range(3)])
    )
    assert found.ids(store).tolist() == ids.tolist()
    assert found.labels(store).tolist() == judged.labels[ids].tolist()
    assert found.confidences(store).tolist() == judged.confidence[ids].tolist()
    assert np.array_equal(found.images(store), pictures(ids))
    # As few shards as hold them, each sampled once.
    assert len(found.shards) == ids[-1] // 32 + 1
    assert chosen.sampled() == [32 * number for number in range(len(found.shards))]
    assert len(chosen.seen("made-sampler")) <= 3  # rounds


def test_what_was_drawn_is_counted(store: Store, stages: Stages) -> None:
    found = draw_set(store, job(stages))
    drawn = len(found.shards) * 32
    judged, classes = verdicts(drawn, stages.rule)
    counts_KR = [
        [int(((classes == label) & (judged.reason == reason)).sum()) for reason in range(3)] for label in range(3)
    ]
    assert found.tally == tuple(map(tuple, counts_KR))
    assert found.drawn_per_class.sum() == drawn == found.work.drawn
    assert found.kept_per_class.tolist() == [row[0] for row in counts_KR]
    assert found.pass_rates == pytest.approx([row[0] / sum(row) for row in counts_KR])
    assert {reason: counts.tolist() for reason, counts in found.rejected.items()} == {
        REASONS[number]: [row[number] for row in counts_KR] for number in (1, 2)
    }
    assert len(found) == 120
    assert found.images_per_second is not None
    assert found.work.rebuilt == ()
    again = draw_set(store, job(stages))
    assert again == found
    assert (again.work.drawn, again.images_per_second) == (0, None)


def test_a_larger_quota_only_adds_shards(store: Store, stages: Stages) -> None:
    few = draw_set(store, job(stages, per_class=10))
    more = draw_set(store, job(stages, per_class=60))
    assert stages.sampled() == [32 * number for number in range(len(more.shards))]
    assert set(few.ids(store)) < set(more.ids(store))
    assert draw_set(store, job(stages, per_class=10)) == few


def test_without_a_quota_exactly_the_images_asked_for_are_drawn(store: Store, stages: Stages) -> None:
    found = draw_set(store, job(stages, per_class=None, max_images=100))
    judged, _ = verdicts(100, stages.rule)
    assert found.ids(store).tolist() == np.flatnonzero(judged.reason == KEPT).tolist()
    assert found.drawn_per_class.sum() == 100
    assert [shard.name for shard in found.shards][-1] == "synthetic/a/000003-first-4.parquet"
    # Of more, the shards that were whole stay.
    more = draw_set(store, job(stages, per_class=None, max_images=130))
    assert set(found.ids(store)) < set(more.ids(store))
    assert more.work.drawn == 34


def test_a_set_survives_json(store: Store, stages: Stages) -> None:
    found = draw_set(store, job(stages))
    again = SyntheticSet.from_json(found.to_json())
    assert again == found
    assert again.work == found.work
    assert again.to_json() == found.to_json()
    assert {name: file_digest(content) for name, content in contents(store).items()} == again.files


KILLED = """
import sys
from pathlib import Path
from raymia.diffusion.drawing import draw_set
from raymia.store import Store
from tests.diffusion.stubs import Stages, job
draw_set(Store(sys.argv[1]), job(Stages(sys.argv[2], die_at=96)))
"""


def test_killed_and_started_again_it_goes_on(tmp_path: Path, store: Store) -> None:
    undisturbed = Store(str(tmp_path / "undisturbed"))
    expected = draw_set(undisturbed, job(Stages(str(tmp_path / "others"))))
    notes = str(tmp_path / "notes")
    killed = subprocess.run([sys.executable, "-c", KILLED, store.root, notes], timeout=300, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stages = Stages(notes)
    assert stages.sampled() == [0, 32, 64, 96]
    assert len(list(store.names())) == 3
    assert draw_set(store, job(stages)) == expected
    assert stages.sampled() == sorted([96, *(32 * number for number in range(len(expected.shards)))])
    assert contents(store) == contents(undisturbed)


@pytest.mark.parametrize("order", ["backwards", "twice and more"])
def test_the_order_and_number_of_what_is_drawn_do_not_matter(tmp_path: Path, stages: Stages, order: str) -> None:
    def astray(numbers: Sequence[int], job: ShardJob, store: Store) -> Iterator[ShardReport]:
        if order == "twice and more":
            yield from in_process([*numbers, max(numbers) + 1, max(numbers) + 2], job, store)
        yield from in_process(numbers[::-1], job, store)

    straight, other = Store(str(tmp_path / "straight")), Store(str(tmp_path / "other"))
    expected = draw_set(straight, job(stages))
    found = draw_set(other, job(stages), astray)  # type: ignore[arg-type]
    assert found == expected
    assert contents(other).items() >= contents(straight).items()


@pytest.mark.parametrize("wrong", ["flipped", "truncated", "empty", "foreign"])
def test_a_shard_that_cannot_be_used_is_drawn_again_and_named(
    tmp_path: Path, store: Store, stages: Stages, wrong: str
) -> None:
    expected = draw_set(store, job(stages))
    before = contents(store)
    name = "synthetic/a/000002.parquet"
    content = bytearray(before[name])
    if wrong == "flipped":
        content[len(content) // 2] ^= 4
    elif wrong == "truncated":
        del content[-10:]
    elif wrong == "empty":
        content.clear()
    else:
        elsewhere = Store(str(tmp_path / "elsewhere"))
        draw_set(elsewhere, job(stages, key="another generator"))
        content[:] = elsewhere.read_file(name)
    store.write_file(name, bytes(content))
    fresh_notes = Stages(str(tmp_path / "fresh notes"))
    found = draw_set(store, job(fresh_notes))
    assert found == expected
    assert found.work.rebuilt == (name,)
    assert fresh_notes.sampled() == [64]
    assert contents(store) == before


def test_a_changed_generator_under_old_shards_mixes_nothing(store: Store, tmp_path: Path, stages: Stages) -> None:
    old = draw_set(store, job(stages, key="old"))
    found = draw_set(store, job(stages, key="new"))
    assert set(found.work.rebuilt) == {shard.name for shard in old.shards}
    keys = {pq.read_schema(Path(store.root, shard.name)).metadata[b"raymia.key"] for shard in found.shards}
    assert keys == {b"new"}
    with pytest.raises(DamagedError, match=r"000000\.parquet is not the one this set was chosen from"):
        old.images(store)


def test_a_threshold_that_nothing_passes_ends_in_one_line(store: Store, stages: Stages) -> None:
    strict = Stages(stages.folder, Filter("agree", 1.0))
    with pytest.raises(
        ShortfallError, match=r"class 0 has 0, class 1 has 0, class 2 has 0 of the 40.*threshold"
    ) as caught:
        draw_set(store, job(strict))
    assert "\n" not in str(caught.value)
    # It does not draw all 2,000 to see it.
    assert 300 < len(strict.sampled()) * 32 < 1000
    with pytest.raises(ShortfallError, match="none of the 64 images drawn passed the filter"):
        draw_set(Store(store.root + "2"), job(strict, per_class=None, max_images=64))


def test_a_class_without_images_is_named(store: Store, stages: Stages) -> None:
    mute = Stages(stages.folder, mute=1)
    with pytest.raises(
        ShortfallError, match=r"^class 1 has 0 of the 40 images wanted, after [\d,]+ drawn of at most 2,000"
    ):
        draw_set(store, job(mute))


def test_a_quota_that_is_just_missed_draws_all_there_may_be(store: Store, stages: Stages) -> None:
    judged, _ = verdicts(224, stages.rule)
    passing = [int(((judged.reason == KEPT) & (judged.labels == label)).sum()) for label in range(3)]
    enough = draw_set(store, job(stages, per_class=min(passing), max_images=224))
    assert len(enough) == 3 * min(passing)
    with pytest.raises(ShortfallError, match="after 224 drawn of at most 224"):
        draw_set(store, job(stages, per_class=min(passing) + 1, max_images=224))


def test_more_images_than_may_be_drawn_are_refused(stages: Stages) -> None:
    with pytest.raises(InputError, match=r"diffusion\.max_images: 100 cannot hold 40 images of each of 3 classes"):
        job(stages, max_images=100)


def test_a_stream_that_loses_a_shard_is_no_endless_loop(store: Store, stages: Stages) -> None:
    def losing(numbers: Sequence[int], job: ShardJob, store: Store) -> Iterator[ShardReport]:
        yield from in_process(numbers[1:], job, store)

    with pytest.raises(RunError, match=r"ended without shards \[0\]"):
        draw_set(store, job(stages), losing)  # type: ignore[arg-type]


def test_a_round_that_asked_for_too_many_is_ended(store: Store, stages: Stages) -> None:
    closed = []

    def endless(numbers: Sequence[int], job: ShardJob, store: Store) -> Iterator[ShardReport]:
        try:
            yield from in_process(range(numbers[0], job.shards), job, store)
        finally:
            closed.append(numbers[0])

    found = draw_set(store, job(stages), endless)  # type: ignore[arg-type]
    assert closed == [0]
    assert stages.sampled() == [32 * number for number in range(len(found.shards))]


def test_rounds_grow_with_what_is_known(stages: Stages) -> None:
    made = job(stages, shard_size=10, classes=1, per_class=100, max_images=10_000)
    prefix = Prefix(made)
    assert round_end(made, prefix) == 30
    for number, report in enumerate(reports_of([[0] * 2 + [-1] * 8] * 30, 1)):
        assert report.number == number
        prefix.add(report)
    # 40 are missing, 2 a shard: 20 shards and half as much again.
    assert round_end(made, prefix) == 30 + 30
    nothing = Prefix(made)
    for report in reports_of([[-1] * 10] * 5, 1):
        nothing.add(report)
    assert round_end(made, nothing) == 5 + 15
    assert round_end(job(stages, per_class=None), Prefix(job(stages, per_class=None))) == 63


def test_progress_counts_what_the_quotas_take(store: Store, stages: Stages) -> None:
    told: list[tuple[int, int]] = []
    draw_set(store, job(stages), report=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (120, 120)
    assert {total for _, total in told} == {120}


def test_a_fresh_run_draws_all_anew(store: Store, stages: Stages) -> None:
    first = draw_set(store, job(stages))
    found = draw_set(Store(store.root, fresh="run 1"), job(stages))
    assert found.work.drawn == first.work.drawn
    assert found.work.rebuilt == ()
    assert found.ids(store).tolist() == first.ids(store).tolist()


def reports_of(labels_by_shard: list[list[int]], classes: int) -> list[ShardReport]:
    """Shards of images of these labels; -1 is one that did not pass."""
    found = []
    for number, labels in enumerate(labels_by_shard):
        tally_KR = np.zeros((classes, len(REASONS)), dtype=np.int64)
        rows = [row for row, label in enumerate(labels) if label >= 0]
        for label in labels:
            tally_KR[max(label, 0), KEPT if label >= 0 else 2] += 1
        kept = np.array([labels[row] for row in rows], dtype=np.int64)
        found.append(ShardReport(number, f"{number}", "", tally_KR, np.array(rows, dtype=np.int64), kept))
    return found


@settings(max_examples=150, deadline=None)
@given(data=st.data(), classes=st.integers(1, 3), size=st.integers(2, 6), quota=st.integers(1, 5))
def test_the_shortest_prefix_with_the_quota_gives_the_lowest_ids(
    data: st.DataObject, classes: int, size: int, quota: int
) -> None:
    labels = st.lists(st.integers(-1, classes - 1), min_size=size, max_size=size)
    shards = data.draw(st.lists(labels, min_size=1, max_size=12))
    # Enough of each class at the end, so that there is always a set.
    shards += [([label] * size) for label in range(classes) for _ in range(quota)]
    stages = Stages("nowhere")
    made = job(stages, shard_size=size, classes=classes, per_class=quota, max_images=10**9)
    prefix = Prefix(made)
    for report in data.draw(st.permutations(reports_of(shards, classes))):
        assert len(prefix.shards) < round_end(made, prefix) <= made.shards or prefix.complete
        prefix.add(report)
    flat = [label for shard in shards for label in shard]
    lowest = sorted(
        number for label in range(classes) for number in [at for at, one in enumerate(flat) if one == label][:quota]
    )
    found = prefix.chosen(SyntheticSet("", SHAPE, classes, (), ()).work)
    assert [int(shard.name) * size + row for shard in found.shards for row in shard.rows] == lowest
    assert len(found.shards) == lowest[-1] // size + 1
    assert found.drawn_per_class.sum() == len(found.shards) * size
    assert len(found) == quota * classes
