"""The whole chain of the diffusion + mixed-sample defense, tiny: generator, filter, images, model, populations."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymia.diffusion.shards import find_shard
from raymia.errors import InputError, ShortfallError
from raymia.metrics.populations import parts
from raymia.recipes.blueprint import synthetic_sets
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, Recipe, make, ready, walk
from raymia.recipes.result import ResultRecipe
from raymia.recipes.scores import ScoresRecipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.records import Records
from raymia.store import Inspection
from tests.recipes.conftest import CountingStore, study_of

# A generator that has hardly learned: no filter, so that what it draws is kept.
TINY: dict[str, Any] = {
    "diffusion__channels": [8],
    "diffusion__attention": [],
    "diffusion__iterations": 6,
    "diffusion__batch_size": 10,
    "diffusion__sampler_steps": 2,
    "diffusion__shard_size": 20,
    "diffusion__per_class": 3,
    "diffusion__max_images": 200,
    "diffusion__precision": "fp32",
    "diffusion__checkpoint_every": 3,
    "plan__targets": 1,
}
UNFILTERED = {"threshold": 0.0, "labels": "condition"}


def result_of(records: Records, changes: dict[str, Any] | None = None, **hyperparameters: Any) -> ResultRecipe:
    given = {"subset": 0.25, **UNFILTERED, **hyperparameters}
    blueprint, settings = study_of(records, {"diffusion_mixup": given}, **{**TINY, **(changes or {})})
    return blueprint.result(settings[-1])


def models_of(result: ResultRecipe) -> list[ModelRecipe]:
    """The target and the shadow."""
    first = result.targets[0].scores[0]
    assert isinstance(first, ScoresRecipe)
    return [first.target.model, first.shadow.signals.model]  # type: ignore[list-item]


def images_of(model: Recipe) -> SyntheticRecipe:
    (images,) = synthetic_sets(model)
    return images


@pytest.fixture(scope="module")
def made(digits: Records, tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultRecipe, Bench]:
    """One setting, made whole."""
    bench = Bench(digits, CountingStore(str(tmp_path_factory.mktemp("chain"))))
    result = result_of(digits)
    make(result, bench)
    return result, bench


def test_target_and_shadow_each_have_a_chain_of_their_own_on_their_own_records(
    made: tuple[ResultRecipe, Bench],
) -> None:
    target, shadow = models_of(made[0])
    chains = [images_of(model) for model in (target, shadow)]
    assert len({one.generator.key for one in chains}) == len({one.classifier.key for one in chains}) == 2
    assert len({one.folder for one in chains}) == 2
    assert len({one.generator.seed for one in chains}) == len({one.seed for one in chains}) == 2
    for model, chain in zip((target, shadow), chains, strict=True):
        assert set(chain.generator.positions) == set(model.positions)
        assert set(chain.classifier.positions) == set(model.positions)
    assert not set(target.positions) & set(shadow.positions)


def test_every_population_is_attacked_on_its_own_members_against_the_same_others(
    made: tuple[ResultRecipe, Bench],
) -> None:
    result, bench = made
    target = models_of(result)[0]
    direct = target.positions[target.exposure == 2]
    assert len(direct) == 10
    members = {
        "all": set(target.positions),
        "direct": set(direct),
        "indirect": set(target.positions) - set(direct),
        "generator": set(target.positions),
    }
    seen = set()
    for one in result.targets[0].scores:
        scores, member = one.scores(bench.store)
        population = parts(one.measure)[1]
        seen.add(one.measure)
        assert member.sum() == len(members[population])
        assert (~member).sum() == 40
        assert np.isfinite(scores).all()
    assert seen == {
        *(f"{attack}{population}" for attack in ("loss", "entropy") for population in ("", "/direct", "/indirect")),
        "denoising_loss/generator",
        "nearest_copy/generator",
    }
    measured = result.open(bench.store)
    assert set(measured.pooled) == seen
    worst = max(measured.pooled[name].auc for name in seen if not name.endswith("generator"))
    assert measured.outcome["worst_auc"] == worst


def test_a_population_is_scored_as_if_the_other_members_were_not_there(made: tuple[ResultRecipe, Bench]) -> None:
    """The loss attack scores a record by itself: its score in a population is its score among all."""
    result, bench = made
    by_measure = {one.measure: one for one in result.targets[0].scores}
    found = {}
    for measure in ("loss", "loss/direct", "loss/indirect"):
        recipe = by_measure[measure]
        assert isinstance(recipe, ScoresRecipe)
        scores, member = recipe.scores(bench.store)
        found[measure] = (np.sort(scores[member]), np.sort(scores[~member]))
    members = np.sort(np.concatenate([found["loss/direct"][0], found["loss/indirect"][0]]))
    np.testing.assert_array_equal(members, found["loss"][0])
    np.testing.assert_array_equal(found["loss/direct"][1], found["loss"][1])


def test_the_model_is_trained_on_the_images_and_the_subset_alone(made: tuple[ResultRecipe, Bench]) -> None:
    result, bench = made
    target = models_of(result)[0]
    images = images_of(target).open(bench.store)
    rows = target._training_set(bench, {"diffusion_mixup/images": images})
    assert isinstance(rows.inputs, np.ndarray)
    assert len(rows) == 3 * 10 + 10
    np.testing.assert_array_equal(rows.inputs[:30], images.inputs.take(np.arange(30)))
    assert np.bincount(rows.labels[:30], minlength=10).tolist() == [3] * 10
    direct = target.positions[target.exposure == 2]
    np.testing.assert_array_equal(rows.inputs[30:], bench.records.inputs[direct])


def test_streamed_and_held_in_memory_train_the_same_model(made: tuple[ResultRecipe, Bench], tmp_path: Path) -> None:
    result, bench = made
    target = models_of(result)[0]
    small = target.ground.config.engine.model_copy(update={"in_memory_gb": 0.0})
    ground = replace(target.ground, config=target.ground.config.model_copy(update={"engine": small}))
    streamed = replace(target, ground=ground)
    assert streamed.key == target.key
    rows = streamed._training_set(bench, {"diffusion_mixup/images": images_of(target).open(bench.store)})
    assert not isinstance(rows.inputs, np.ndarray)
    kept = bench.store.read(target.artifacts[0])[0]
    bench.store.delete(target.artifacts[0])
    streamed.build(bench)
    assert bench.store.read(target.artifacts[0])[0] == kept


def test_later_settings_reuse_what_comes_before_them(made: tuple[ResultRecipe, Bench], digits: Records) -> None:
    result, bench = made
    store = bench.store
    assert isinstance(store, CountingStore)
    before = {recipe.key for recipe in walk([result])}
    for hyperparameters, kinds in (
        ({"alpha": 0.5}, {"models", "signals", "scores", "results"}),
        ({"subset": 0.5}, {"models", "signals", "scores", "results"}),
        ({"threshold": 0.05}, {"synthetic", "models", "signals", "scores", "quality", "results"}),
        ({"guidance": 1.0}, {"synthetic", "models", "signals", "scores", "quality", "results"}),
    ):
        other = result_of(digits, **hyperparameters)
        assert {recipe.kind for recipe in walk([other]) if recipe.key not in before} == kinds, hyperparameters
    sampled = result_of(digits, {"diffusion__sampler_steps": 3})
    new = {recipe.kind for recipe in walk([sampled]) if recipe.key not in before}
    assert "synthetic" in new
    assert "generators" not in new
    longer = result_of(digits, {"diffusion__iterations": 7})
    assert "generators" in {recipe.kind for recipe in walk([longer]) if recipe.key not in before}


def test_more_images_only_add_shards(made: tuple[ResultRecipe, Bench], digits: Records) -> None:
    result, bench = made
    few, many = (images_of(models_of(one)[0]) for one in (result, result_of(digits, per_class=5)))
    assert few.folder == many.folder
    assert few.key != many.key
    there = {name: bench.store.read_file(name) for name in few.read(bench.store).files}
    make(many, bench)
    found = many.read(bench.store)
    assert len(found) == 50
    assert all(bench.store.read_file(name) == content for name, content in there.items())
    np.testing.assert_array_equal(
        np.intersect1d(found.ids(bench.store), few.read(bench.store).ids(bench.store)),
        few.read(bench.store).ids(bench.store),
    )


def test_a_damaged_shard_is_found_and_drawn_again(made: tuple[ResultRecipe, Bench]) -> None:
    result, bench = made
    images = images_of(models_of(result)[0])
    name = sorted(images.read(bench.store).files)[0]
    path = Path(bench.store.root) / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    inspection = Inspection()
    assert not ready(images, bench.store, inspection)
    assert inspection.damaged == [name]
    make(images, bench)
    assert path.read_bytes() == whole
    assert images.read(bench.store).work.rebuilt == (name,)


def test_shards_say_what_made_them(made: tuple[ResultRecipe, Bench]) -> None:
    import pyarrow.parquet as pq

    result, bench = made
    images = images_of(models_of(result)[0])
    name = sorted(images.read(bench.store).files)[0]
    metadata = pq.read_schema(Path(bench.store.root) / name).metadata
    assert metadata[b"raymia.generator"].decode() == images.generator.key
    assert metadata[b"raymia.classifier"].decode() == images.classifier.key
    assert metadata[b"raymia.guidance"] == b"0"
    assert metadata[b"raymia.sampler"] == b"dpm_solver++"
    assert metadata[b"raymia.seed"].decode() == str(images.seed)
    job = images._job(bench)
    assert find_shard(bench.store, job.shard(0)).name == name


def test_quality_is_measured_with_models_that_saw_neither_set(made: tuple[ResultRecipe, Bench]) -> None:
    result, bench = made
    (recipe,) = result.targets[0].quality
    assert not set(recipe.encoder.positions) & (set(recipe.members) | set(recipe.heldout))
    assert not set(recipe.members) & set(recipe.heldout)
    quality = recipe.open(bench.store)
    assert quality.images == 30
    assert quality.cas is not None
    answers = recipe.generated.answer(bench, 2, recipe.heldout)[:, 0].argmax(axis=1)
    assert quality.cas.value == pytest.approx((answers == bench.records.labels[recipe.heldout]).mean())
    assert quality.pixels.closer.references == 40
    sheet = recipe.sheet(bench.store)
    assert len(sheet.generated) == 10
    members = {image.tobytes() for image in bench.records.inputs[recipe.members]}
    assert all(image.tobytes() in members for image in sheet.training)
    squares = (sheet.generated / 255.0 - sheet.training / 255.0) ** 2
    np.testing.assert_allclose(sheet.distances, np.sqrt(squares.sum(axis=(1, 2, 3))))
    assert len(sheet.kept.images) == 30


def test_calibration_keeps_a_tenth_of_the_members_from_the_classifier(digits: Records) -> None:
    images = images_of(models_of(result_of(digits, calibrate=True))[0])
    assert len(images.held_out) == 4
    assert len(images.classifier.positions) == 36
    assert not set(images.held_out) & set(images.classifier.positions)
    assert set(images.generator.positions) == set(images.held_out) | set(images.classifier.positions)


def test_a_filter_that_nothing_passes_stops_with_the_classes_named(digits: Records, bench: Bench) -> None:
    images = images_of(models_of(result_of(digits, threshold=0.99, labels="agree"))[0])
    with pytest.raises(ShortfallError, match=r"class \d+ has 0.* of the 3 images wanted.*lower the filter's threshold"):
        make(images, bench)


@pytest.mark.parametrize(
    ("changes", "hyperparameters", "message"),
    [
        ({"diffusion__batch_size": 80}, {}, "diffusion.batch_size is 80, and a generator has only 40 images"),
        ({"diffusion__conditional": False}, {"labels": "pseudo", "guidance": 1.0}, "guidance: 1 needs a class-cond"),
        ({"diffusion__conditional": False}, {}, "labels: 'condition' needs the class an image was drawn for"),
        ({"diffusion__null_probability": 0.0}, {"guidance": 1.0}, "needs a denoiser trained with labels left out"),
        ({"diffusion__channels": [8, 8, 8, 8, 8]}, {}, "diffusion.channels has 5 resolutions"),
        ({"diffusion__timesteps": 50}, {}, "diffusion.beta_end: after 50 timesteps 6"),
        ({"diffusion__per_class": 30}, {}, "diffusion.max_images: 200 cannot hold 30 images of each of 10 classes"),
    ],
)
def test_what_cannot_work_is_found_before_anything_trains(
    digits: Records, changes: dict[str, Any], hyperparameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(walk([result_of(digits, changes, **hyperparameters)]))


def test_an_unconditional_generator_takes_its_labels_from_the_classifier(digits: Records, bench: Bench) -> None:
    changes = {"diffusion__conditional": False, "diffusion__per_class": 1, "diffusion__max_images": 2000}
    images = images_of(models_of(result_of(digits, changes, labels="auto", threshold=0.0))[0])
    for recipe in images.requires():
        make(recipe, bench)
    job = images._job(bench)
    assert not job.conditional
    assert job.metadata["filter"].startswith("pseudo")


def test_other_weights_under_the_same_settings_mix_no_images(made: tuple[ResultRecipe, Bench]) -> None:
    """A generator that was trained anew on another kind of machine, say."""
    result, bench = made
    images = images_of(models_of(result)[0])
    before = images._job(bench).key
    name = images.generator.artifacts[0]
    payload, meta = bench.store.read(name)
    bench.store.write(name, payload, {**meta, "seconds": 1.0})
    assert images._job(bench).key == before
    state = torch.load(io.BytesIO(payload), weights_only=True)
    buffer = io.BytesIO()
    torch.save({key: value + 1e-3 for key, value in state.items()}, buffer)
    bench.store.write(name, buffer.getvalue(), meta)
    try:
        assert images._job(bench).key != before
    finally:
        bench.store.write(name, payload, meta)


def test_a_class_without_records_is_named_before_its_generator_trains(digits: Records, bench: Bench) -> None:
    generator = images_of(models_of(result_of(digits))[0]).generator
    few = replace(generator, positions=np.flatnonzero(digits.labels != 7)[:40])
    with pytest.raises(InputError, match=r"none of its 40 records is of class '7'; raise plan\.part_size"):
        few.build(bench)


def test_a_killed_training_of_a_generator_goes_on_to_the_same_weights(digits: Records, bench: Bench) -> None:
    whole = images_of(models_of(result_of(digits))[0]).generator

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done >= 3:
            raise KilledError

    with pytest.raises(KilledError):
        whole.build(replace(bench, report=kill))
    assert f"checkpoints/{whole.key}" in {name for name, _ in bench.store.names()}
    make(whole, bench)
    resumed = bench.store.read(whole.artifacts[0])[0]
    assert f"checkpoints/{whole.key}" not in {name for name, _ in bench.store.names()}
    bench.store.delete(whole.artifacts[0])
    make(whole, bench)
    one, other = (
        torch.load(io.BytesIO(raw), weights_only=True) for raw in (resumed, bench.store.read(whole.artifacts[0])[0])
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adversarial_training_and_its_penalty_compose_with_generated_images(made: tuple[ResultRecipe, Bench]) -> None:
    bench, weights = made[1], []
    robust = {"diffusion_mixup": {"subset": 0.25, **UNFILTERED}, "pgd_at": {"epsilon": 0.1, "steps": 2}}
    for entry in (robust, {**robust, "demem": {"strength": 0.0}}, {**robust, "demem": {"strength": 0.5}}):
        blueprint, settings = study_of(bench.records, entry, **TINY)
        target = models_of(blueprint.result(settings[-1]))[0]
        make(target, bench)
        assert images_of(target).key == images_of(models_of(made[0])[0]).key
        weights.append(torch.cat([w.flatten() for w in target.open(bench.store, bench.device).model.parameters()]))
    crafted, unchanged, pulled = weights
    assert torch.equal(crafted, unchanged)
    assert not torch.equal(crafted, pulled)
