"""Building a study's graph in this process: once, in order, again only where something is missing or damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raymia.defenses import Dropout, Mixup
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, Recipe, make, ready, walk
from raymia.recipes.result import ResultRecipe
from raymia.records import Records
from raymia.store import DamagedError, Inspection, Store
from raymia.training.defense import Composed
from tests.recipes.conftest import CountingStore, ground_of, study_of


@pytest.fixture
def result(digits: Records) -> ResultRecipe:
    """Mixup and dropout with augmentation, over two targets."""
    blueprint, [_, setting] = study_of(
        digits,
        {"mixup": {"alpha": 0.5}, "dropout": {"rate": 0.2}},
        training__augmentation="crop_flip",
        training__epochs=3,
    )
    return blueprint.result(setting)


def files(store: Store) -> dict[str, bytes]:
    return {name: (Path(store.root) / name).read_bytes() for name, _ in store.names()}


def test_a_graph_is_walked_once_requirements_first(result: ResultRecipe) -> None:
    steps = list(walk([result, result]))
    keys = [step.key for step in steps]
    assert len(keys) == len(set(keys))
    for number, step in enumerate(steps):
        assert {part.key for part in step.requires()} <= set(keys[:number])
    counts = {kind: sum(step.kind == kind for step in steps) for kind in ("models", "signals", "scores", "results")}
    assert counts == {"models": 4, "signals": 4, "scores": 4, "results": 1}
    assert all(isinstance(step, Recipe) and step.label and "\n" not in step.label for step in steps)


def test_making_writes_each_artifact_once_and_leaves_no_checkpoint(
    result: ResultRecipe, bench: Bench, store: CountingStore
) -> None:
    make(result, bench)
    kept = [name for name in store.written if not name.startswith("checkpoints/")]
    wanted = [name for step in walk([result]) for name in step.artifacts]
    assert kept == wanted
    assert {name for name, _ in store.names()} == set(wanted)
    store.written.clear()
    make(result, bench)
    assert store.written == []


@pytest.mark.parametrize("kind", ["models", "signals", "scores", "results"])
def test_exactly_the_damaged_artifact_is_rebuilt_and_as_it_was(
    result: ResultRecipe, bench: Bench, store: CountingStore, kind: str
) -> None:
    make(result, bench)
    before = {name: store.read(name)[0] for name, _ in store.names()}
    [name] = next(step for step in walk([result]) if step.kind == kind).artifacts
    path = Path(store.root) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    store.written.clear()
    make(result, bench)
    assert [one for one in store.written if not one.startswith("checkpoints/")] == [name]
    after = {name: store.read(name)[0] for name, _ in store.names()}
    # The measurements repeat to the bit, a model's payload too.
    assert after == before


def test_a_missing_artifact_is_made_again_and_an_inspection_names_a_damaged_one(
    result: ResultRecipe, bench: Bench, store: CountingStore
) -> None:
    make(result, bench)
    scores = result.targets[0].scores[0]
    (Path(store.root) / scores.artifacts[0]).write_bytes(b"")
    store.delete(result.artifacts[0])
    inspection = Inspection()
    assert not ready(scores, store, inspection)
    assert not ready(result, store, inspection)
    assert ready(scores.target, store, inspection)
    assert inspection.damaged == list(scores.artifacts)
    make(result, bench)
    assert ready(scores, store, Inspection())
    assert ready(result, store, Inspection())


def test_a_second_study_builds_only_what_is_new(digits: Records, bench: Bench, store: CountingStore) -> None:
    for attacks, kinds in ((["loss"], {"models", "signals", "scores", "results"}), (["loss", "entropy"], set())):
        blueprint, [setting] = study_of(digits, attacks=attacks)
        store.written.clear()
        make(blueprint.result(setting), bench)
        assert {name.partition("/")[0] for name in store.written} - {"checkpoints"} == (kinds or {"scores", "results"})


def test_a_fresh_run_makes_everything_anew_once(digits: Records, bench: Bench, store: CountingStore) -> None:
    blueprint, [setting] = study_of(digits, plan__targets=1)
    result = blueprint.result(setting)
    make(result, bench)
    before = {name: store.read(name)[0] for name, _ in store.names()}
    fresh = CountingStore(store.root, fresh="a new run")
    for expected in (set(before), set()):
        fresh.written.clear()
        make(result, Bench(digits, fresh))
        assert {name for name in fresh.written if not name.startswith("checkpoints/")} == expected
    assert {name: store.read(name)[0] for name, _ in store.names()} == before


def recipe(digits: Records, *snapshots: int) -> ModelRecipe:
    ground = ground_of(digits, {"training.epochs": 4, "training.augmentation": "flip"})
    defense = Composed((Mixup(alpha=0.4), Dropout(rate=0.3)))
    nobody = np.zeros(0, dtype=np.int64)
    return ModelRecipe(ground, defense, np.arange(40), nobody, ("target", 0), frozenset(snapshots))


class StoppedError(Exception):
    """What stands for a crash."""


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_model_interrupted_in_the_store_goes_on_from_its_checkpoint(
    digits: Records, bench: Bench, store: CountingStore, tmp_path: Path, stop: int
) -> None:
    whole = Store(str(tmp_path / "undisturbed"))
    recipe(digits, 4).build(Bench(digits, whole))
    epochs: list[int] = []

    def report(done: int, total: int) -> None:
        epochs.append(done)
        assert total == 4
        if done == stop and len(epochs) == stop:
            raise StoppedError

    watched = Bench(digits, store, report=report)
    with pytest.raises(StoppedError):
        recipe(digits, 4).build(watched)
    assert [name for name, _ in store.names()] == [f"checkpoints/{recipe(digits, 4).key}"]
    recipe(digits, 4).build(watched)
    assert epochs == [1, 2, 3, 4]
    name = recipe(digits, 4).artifacts[0]
    assert store.read(name)[0] == whole.read(name)[0]
    assert [one for one, _ in store.names()] == [name]


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_checkpoint_means_starting_over(
    digits: Records, bench: Bench, store: CountingStore, content: bytes
) -> None:
    one = recipe(digits, 4)
    store.write(f"checkpoints/{one.key}", b"", {})
    (Path(store.root) / f"checkpoints/{one.key}").write_bytes(content)
    one.build(bench)
    assert store.read(one.artifacts[0])


def test_only_the_missing_stop_is_written_again(digits: Records, bench: Bench, store: CountingStore) -> None:
    one = recipe(digits, 2, 4)
    one.build(bench)
    before = {name: store.read(name)[0] for name in one.artifacts}
    store.delete(one.artifact(2))
    store.written.clear()
    one.build(bench)
    assert [name for name in store.written if name.startswith("models/")] == [one.artifact(2)]
    assert {name: store.read(name)[0] for name in one.artifacts} == before


def test_histories_and_epochs_are_those_of_the_stop(digits: Records, bench: Bench) -> None:
    one = recipe(digits, 2, 4)
    one.build(bench)
    assert len(one.history(bench.store, 2)) == 2
    assert one.history(bench.store, 4)[:2] == one.history(bench.store, 2)
    early, late = (one.answer(bench, epoch, np.arange(50)) for epoch in (2, 4))
    assert early.shape == (50, 1, 10)
    assert early.dtype == np.float32
    assert np.abs(early - late).max() > 1e-3
    np.testing.assert_array_equal(one.open(bench.store, bench.device).logits(bench.records.inputs[:50]), late[:, 0])


def test_a_released_model_answers_each_record_alone_and_the_same(digits: Records, bench: Bench) -> None:
    """Evaluation mode: no dropout, no batch statistics, whatever stands beside a record."""
    one = recipe(digits, 4)
    one.build(bench)
    model = one.open(bench.store, bench.device)
    assert not model.model.training
    inputs = digits.inputs[:300]
    together = model.logits(inputs)
    np.testing.assert_array_equal(together, model.logits(inputs))
    alone = np.concatenate([model.logits(inputs[[row]]) for row in range(0, 300, 60)])
    np.testing.assert_allclose(together[::60], alone, rtol=1e-4, atol=1e-5)


def test_models_of_bf16_answer_in_float32(digits: Records, bench: Bench) -> None:
    ground = ground_of(digits, {"training.precision": "bf16", "training.epochs": 1})
    nobody = np.zeros(0, dtype=np.int64)
    one = ModelRecipe(ground, Composed(()), np.arange(40), nobody, ("target", 0), frozenset({1}))
    one.build(bench)
    logits = one.answer(bench, 1, np.arange(200))
    assert logits.dtype == np.float32
    coarse = torch.from_numpy(logits).bfloat16().float().numpy()
    assert np.mean(coarse == logits) < 0.1


def test_opening_a_damaged_model_names_it(digits: Records, bench: Bench, store: CountingStore) -> None:
    one = recipe(digits, 4)
    one.build(bench)
    (Path(store.root) / one.artifacts[0]).write_bytes(b"?")
    with pytest.raises(DamagedError, match=one.artifacts[0]):
        one.open(bench.store, bench.device)


def test_opening_a_model_leaves_torchs_generator_alone(digits: Records, bench: Bench) -> None:
    one = recipe(digits, 4)
    one.build(bench)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one.open(bench.store, bench.device)
    assert torch.equal(torch.rand(2), expected)
