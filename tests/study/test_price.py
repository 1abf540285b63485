"""What a study is said to cost, counted in the rows and steps of its trainings: how long one takes is measured."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymia.diffusion.denoiser import build_denoiser
from raymia.diffusion.filter import Judged
from raymia.diffusion.pace import denoiser_bytes
from raymia.diffusion.shards import ShardSpec, encode_shard, with_images, with_verdicts
from raymia.recipes.blueprint import models
from raymia.recipes.ground import Ground
from raymia.recipes.keeper import pack_state
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import walk
from raymia.recipes.rehearsal import untrained
from raymia.space import custom_space
from raymia.store import Store
from raymia.study import timing
from raymia.study.disk import classifier_bytes, generator_bytes, stored_images
from raymia.study.price import Price, Training, price, training_of
from raymia.study.study import Study
from raymia.training.defense import Composed
from raymia.training.loop import Keeper, Plan
from tests.study.test_standing import space, study

NOWHERE = Store("/nowhere-at-all")
NOTHING: frozenset[str] = frozenset()
CPU = torch.device("cpu")


class Stopwatch:
    """Seconds of one second each, and what was asked to be timed."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], int, str]] = []
        self.slow_row = 1.0

    def seconds_a_row(self, ground: Ground, defense: Composed, batch_size: int, device: torch.device) -> float:
        self.asked.append((tuple(part.name for part in defense.parts), batch_size, device.type))
        return self.slow_row if defense.parts else 1.0

    def generator_seconds(self, ground: Ground, device: torch.device) -> tuple[float, float]:
        return 1.0, 1.0


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr("raymia.study.price.seconds_a_row", watch.seconds_a_row)
    monkeypatch.setattr("raymia.study.price.generator_seconds", watch.generator_seconds)
    return watch


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The trainings that were to be timed, none of which begins."""
    plans: list[Plan] = []

    def remember(build: object, plan: Plan, keeper: Keeper, *where: object) -> None:
        plans.append(plan)
        keeper.report(1)
        keeper.report(2)

    monkeypatch.setattr(timing, "train", remember)
    return plans


def studied(entry: dict[str, Any], **changes: Any) -> Study:
    return study(space({"settings": [entry]}), **changes)


def priced(entry: dict[str, Any], **changes: Any) -> Price:
    """The price of a study of which nothing is there."""
    return price(studied(entry, **changes), NOWHERE)


def trainings(entry: dict[str, Any], **changes: Any) -> dict[str, Training]:
    """What each model's training takes, by the model's label."""
    found = models(studied(entry, **changes).recipes)
    return {one.label: training_of(one, NOTHING) for one in found if isinstance(one, ModelRecipe)}


@pytest.mark.parametrize(
    ("rows", "batch", "seen"),
    [(150, 50, 300), (150, 64, 2 * 3 * 64), (150, 150, 300), (150, 151, 300), (150, 1_000_000, 300), (1, 1, 2)],
)
def test_the_rows_of_whole_steps_are_counted_and_no_batch_is_larger_than_the_set(
    rows: int, batch: int, seen: int
) -> None:
    assert Training(rows, epochs=2).rows_seen(batch) == seen


def test_a_batch_of_more_than_the_members_costs_as_much_as_one_of_all(stopwatch: Stopwatch) -> None:
    found = [priced({"none": {}}, training__batch_size=size).seconds_each for size in (40, 400, 1_000_000)]
    assert found == [40 * 2] * 3
    assert stopwatch.asked == [((), 40, "cpu")] * 3


def test_no_batch_is_timed_that_takes_all_memory(begun: list[Plan]) -> None:
    for size in (1, 40, 1_000_000):
        timing.seconds_a_row(study().blueprint.ground, Composed(()), size, CPU)
    assert [(plan.config.batch_size, len(plan.rows)) for plan in begun] == [(2, 6), (40, 120), (1024, 3072)]


def test_trainings_generators_and_attacks_take_time() -> None:
    small: dict[str, Any] = {"diffusion__batch_size": 20, "diffusion__channels": [8], "diffusion__attention": []}
    ground = study(**small).blueprint.ground
    assert timing.seconds_a_row(ground, Composed(()), 20, CPU) > 0
    assert min(timing.generator_seconds(ground, CPU)) > 0
    assert timing.seconds_a_pass(ground, CPU) > 0


GENERATED = {
    "diffusion__per_class": 30,
    "diffusion__shard_size": 256,
    "diffusion__batch_size": 20,
    "training__batch_size": 10,
}


def test_a_model_of_generated_images_is_priced_by_their_number(stopwatch: Stopwatch) -> None:
    found = trainings({"diffusion_mixup": {"subset": 0.25}}, **GENERATED)
    assert found["none · target 0"] == found["none · target 0 classifier"] == Training(40, 2)
    mixed = "diffusion_mixup subset=0.25 · "
    assert found[mixed + "target 0"] == found[mixed + "shadow 1"] == Training(30 * 10 + 10, 2)
    # The probe of the set takes as many of a class as there are members.
    assert [one.rows for label, one in found.items() if "generated_only" in label] == [40, 40]
    whole = priced({"diffusion_mixup": {"subset": 0.25}}, **GENERATED)
    # Two targets and their shadows, undefended, with their classifiers; two probes; and what it is all for.
    assert whole.models == 4 + 4 + 2 + 4
    assert whole.seconds_each * whole.models == pytest.approx(2 * (10 * 40 + 4 * 310))
    assert stopwatch.asked == [((), 10, "cpu")]


def test_every_kind_of_model_is_priced_by_what_it_trains_on() -> None:
    repeated = trainings({"diffusion_mixup": {"subset": 0.25, "source": "members", "per_class": 20}})
    assert repeated["diffusion_mixup subset=0.25 per_class=20 source=members · target 1"].rows == 200 + 10
    student = trainings({"dmp": {"keep": 0.5}})
    assert student["dmp keep=0.5 · target 0"].rows == 20
    assert student["none · target 0 teacher"].rows == 40
    # Three quarters of the members train each of four, of whom one leaves a record out.
    parts = trainings({"selena": {"sub_models": 4, "non_models": 1}})
    whole = sum(one.rows for label, one in parts.items() if label.startswith("none · target 0 sub-"))
    assert whole == 3 * 40


def test_references_are_priced_by_their_own_members() -> None:
    found = trainings({"none": {}}, attacks=["loss", "rmia"], plan__references=16)
    references = [one.rows for label, one in found.items() if " reference " in label]
    assert sorted(set(references)) == [40]  # half of the target's and of the other part's
    assert len(references) == 32
    audited = trainings({"none": {}}, plan__canaries=16)
    rows = [audited[f"none · target {number}"].rows for number in (0, 1)]
    assert all(40 < count < 56 for count in rows)


def test_a_training_ends_with_the_last_model_that_is_still_wanted() -> None:
    content = {"mixup": {"alpha": 0.5}, "early_stopping": {"fraction": [0.25, 0.5]}}
    wanted = studied(content, training__epochs=8)
    [stopped, *_] = [
        one for one in models(wanted.recipes) if isinstance(one, ModelRecipe) and one.defense.parts[0].name == "mixup"
    ]
    assert stopped.snapshots == {2, 4}
    assert training_of(stopped, NOTHING).epochs == 4
    assert training_of(stopped, frozenset({stopped.artifact(2)})).epochs == 4
    assert training_of(stopped, frozenset({stopped.artifact(4)})).epochs == 2
    undefended = models(wanted.recipes)[0]
    assert training_of(undefended, NOTHING).epochs == 8


def test_a_users_own_training_is_taken_for_a_plain_one() -> None:
    found = models(study(custom_space("tests.study.test_price:priced")).recipes)
    assert {training_of(one, NOTHING) for one in found} == {Training(40, 2)}


def test_slow_steps_are_timed_apart(stopwatch: Stopwatch) -> None:
    stopwatch.slow_row = 5.0
    found = priced({"pgd_at": {"steps": 2}}, training__batch_size=16)
    assert found.seconds_each == pytest.approx((1.0 + 5.0) / 2 * 3 * 16 * 2)
    assert stopwatch.asked == [((), 16, "cpu"), (("pgd_at",), 16, "cpu")]


def test_workers_of_a_model_share_its_rows(stopwatch: Stopwatch) -> None:
    assert priced({"none": {}}, engine__workers_per_model=2).seconds_each == priced({"none": {}}).seconds_each / 2


def test_only_what_is_left_is_timed(tmp_path: Path, stopwatch: Stopwatch) -> None:
    wanted, store = studied({"pgd_at": {"steps": 2}}), Store(str(tmp_path))
    for one in models(wanted.recipes):
        for name in one.artifacts if one.label.startswith("pgd_at") else ():
            store.write(name, b"made before", {})
    found = price(wanted, store)
    assert (found.models_left, found.reused) == (4, 4)
    assert [names for names, *_ in stopwatch.asked] == [()]


def test_generators_and_images_are_on_the_disk_too(stopwatch: Stopwatch) -> None:
    content = {"diffusion_mixup": {"subset": 0.25}}
    wanted = studied(content, **GENERATED)
    ground, found = wanted.blueprint.ground, price(wanted, NOWHERE)
    recipes = list(walk(wanted.recipes))
    generators = [one for one in recipes if one.kind == "generators"]
    assert len(generators) == found.generators == 4
    a_generator = denoiser_bytes(ground.config.diffusion, (1, 8, 8), 10)
    assert generator_bytes(generators, ground) == 4 * a_generator
    # 600 images drawn in three shards of 256; 300 and more are kept, and at most 20 of a shard are shown.
    images = 4 * 3 * (128 + 20) * (64 + 56)
    assert found.bytes == found.models * classifier_bytes(ground) + 4 * a_generator + images


def test_a_set_that_another_holds_is_drawn_and_kept_once(stopwatch: Stopwatch) -> None:
    both, larger = (
        priced({"diffusion_mixup": {"subset": 0.25, "per_class": sizes}}, **GENERATED) for sizes in ([10, 30], [30])
    )
    assert both.drawing_seconds == larger.drawing_seconds > 0
    weights = classifier_bytes(study().blueprint.ground)
    assert both.bytes - both.models * weights == larger.bytes - larger.models * weights


def test_weights_take_what_they_are_said_to() -> None:
    ground = study().blueprint.ground
    config = ground.config.diffusion
    denoiser = len(pack_state(build_denoiser(config, (1, 8, 8), 10).state_dict()))
    assert denoiser_bytes(config, (1, 8, 8), 10) == pytest.approx(denoiser, rel=0.03)
    wide = study(model__options={"widths": [64, 64, 64]}).blueprint.ground
    assert classifier_bytes(wide) == pytest.approx(len(pack_state(untrained(wide).state_dict())), rel=0.05)


@pytest.mark.parametrize(("side", "channels", "classes"), [(8, 1, 10), (32, 3, 10), (32, 3, 100)])
def test_shards_take_what_they_are_said_to(side: int, channels: int, classes: int) -> None:
    """One shard, of which half passes the filter, as it is written."""
    rng, count, shape = np.random.default_rng(0), 256, (side, side, channels)
    spec = ShardSpec("shard", "key", 0, 0, count, shape, classes, conditional=True)
    asked = spec.asked()
    drawn = with_images(asked, rng.integers(0, 256, (count, *shape), dtype=np.uint8))
    refused = rng.permutation(np.arange(count) % 2).astype(np.int8)
    judged = Judged(asked["condition"].to_numpy(), np.ones(count, dtype=np.float32), refused)
    written = len(encode_shard(spec, with_verdicts(drawn, judged)))
    stored = stored_images(count // 2 // classes, classes, count)
    assert stored * (math.prod(shape) + 56) == pytest.approx(written, rel=0.1)


class Machine:
    """A machine with GPUs, or without."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def has(self, cpus: int, gpus: int) -> None:
        self._patch.setattr("os.cpu_count", lambda: cpus)
        for user in ("raymia.study.timing", "raymia.study.price"):
            self._patch.setattr(f"{user}.gpus_here", lambda: gpus)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("engine", "at_once"),
    [
        ({"engine__gpus_per_worker": 1}, 4),
        ({"engine__gpus_per_worker": 0.5}, 8),
        ({"engine__gpus_per_worker": 0.1}, 16),
        ({"engine__gpus_per_worker": 2, "engine__workers_per_model": 2}, 1),
        ({"engine__gpus_per_worker": 1, "engine__threads_per_worker": 8}, 2),
    ],
    ids=str,
)
def test_gpus_are_timed_and_counted_where_there_are_some(
    engine: dict[str, Any], at_once: int, machine: Machine, stopwatch: Stopwatch
) -> None:
    machine.has(cpus=16, gpus=4)
    found = priced({"none": {}}, **engine)
    assert {device for *_, device in stopwatch.asked} == {"cuda"}
    assert found.at_once == at_once
    assert " on this machine: " in found.lines()[1]


def test_a_price_of_gpus_from_a_machine_without_says_so(machine: Machine, stopwatch: Stopwatch) -> None:
    machine.has(cpus=16, gpus=0)
    found = priced({"none": {}}, engine__gpus_per_worker=1)
    assert {device for *_, device in stopwatch.asked} == {"cpu"}
    assert found.at_once == 1
    assert " on a CPU (it will train on GPUs, and this machine has none to be timed): " in found.lines()[1]
    plain = priced({"none": {}})
    assert plain.at_once == 16
    assert " on this machine: " in plain.lines()[1]


def test_what_will_compute_in_bf16_on_a_gpu_is_timed_in_what_a_cpu_is_fast_in(
    begun: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymia.engine.precision.has_fast_bf16", lambda device: False)
    for gpus in (1, 0):
        ground = study(training__precision="bf16", engine__gpus_per_worker=gpus).blueprint.ground
        timing.seconds_a_row(ground, Composed(()), 20, CPU)
    assert [plan.config.precision for plan in begun] == ["fp32", "bf16"]  # what it trains in on a CPU, however slow
