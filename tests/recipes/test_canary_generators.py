"""Generated images of a study with canaries: what their generator learned, and what names it."""

from typing import Any

import numpy as np
import pytest

from raymia.keys import array_digest, content_key
from raymia.recipes.blueprint import synthetic_sets
from raymia.recipes.generator import GeneratorRecipe
from raymia.recipes.leak import GeneratorScoresRecipe
from raymia.recipes.quality import QualityRecipe
from raymia.recipes.recipe import walk
from raymia.recipes.result import ResultRecipe
from raymia.records import Records
from raymia.records.plan import Role
from raymia.versions import VERSIONS
from tests.recipes.conftest import ground_of, study_of

KINDS = ("clean", "mislabeled", "noise")
MIXED = {"diffusion_mixup": {"subset": 0.25, "threshold": 0.0, "labels": "condition"}}
TAUGHT = {"dmp": {"source": "generated", "threshold": 0.0}}
CHANGES: dict[str, Any] = {
    "diffusion__channels": [8],
    "diffusion__attention": [],
    "diffusion__batch_size": 10,
    "diffusion__per_class": 3,
    "diffusion__precision": "fp32",
    "plan__targets": 2,
}


def results_of(digits: Records, entry: dict[str, Any] | None = None, **changes: Any) -> tuple[ResultRecipe, ...]:
    """The undefended setting's, and the defended one's."""
    blueprint, settings = study_of(digits, entry or MIXED, **CHANGES | changes)
    undefended, defended = (blueprint.result(setting) for setting in settings)
    return undefended, defended


def generators_of(result: ResultRecipe) -> list[GeneratorRecipe]:
    return [one for one in walk([result]) if isinstance(one, GeneratorRecipe)]


def quality_of(result: ResultRecipe, target: int = 0) -> QualityRecipe:
    [quality] = result.targets[target].quality
    return quality


# What canaries are made of.


def test_each_kind_of_canaries_has_generators_of_its_own(digits: Records) -> None:
    keys = {
        kind: {one.key for one in generators_of(results_of(digits, plan__canaries=40, plan__canary_kind=kind)[1])}
        for kind in KINDS
    }
    # Of two targets and their shadows.
    assert all(len(found) == 4 for found in keys.values())
    assert len(set().union(*keys.values())) == 12


def test_their_images_and_what_is_made_of_them_follow(digits: Records) -> None:
    found: dict[str, set[str]] = {}
    for kind in KINDS:
        _, result = results_of(digits, plan__canaries=40, plan__canary_kind=kind)
        target = result.targets[0]
        for name, recipe in {
            "images": synthetic_sets(target.signals.model)[0],
            "model": target.signals.model,
            "quality": quality_of(result),
            "leak": next(one for one in target.scores if isinstance(one, GeneratorScoresRecipe)),
        }.items():
            found.setdefault(name, set()).add(recipe.key)
    assert {name: len(keys) for name, keys in found.items()} == dict.fromkeys(found, 3)


def test_the_study_seed_makes_other_canaries(digits: Records) -> None:
    """Which label, which noise: by the study's seed, and so part of the name on the same records."""
    for canaries, expected in ((40, 2), (0, 1)):
        grounds = [ground_of(digits, {"plan.canaries": canaries, "seed": seed}) for seed in (0, 1)]
        assert len({str(ground.data) for ground in grounds}) == expected


def test_without_canaries_their_kind_does_not_matter_and_names_are_what_they_were(digits: Records) -> None:
    kept: set[tuple[str, ...]] = set()
    for kind in KINDS:
        _, result = results_of(digits, plan__canary_kind=kind)
        kept.add(tuple(one.key for one in generators_of(result)))
    assert len(kept) == 1

    [generator, *_] = generators_of(result)
    config = generator.ground.config
    skipped = {"sampler", "sampler_steps", "guidance", "clip", "per_class", "shard_size", "max_images"}
    content = {
        "data": digits.fingerprint,
        "diffusion": config.diffusion.model_dump(mode="json", exclude=skipped | {"checkpoint_every"}),
        "workers": 1,
        "threads": config.engine.threads_per_worker,
        "device": "cpu",
        "positions": array_digest(generator.positions),
        "seed": generator.seed,
        "versions": [VERSIONS["records"], VERSIONS["denoiser"]],
    }
    assert generator.key == content_key("generator", content)
    assert "canaries" not in generator.ground.content
    assert generator.ground.data == {"data": digits.fingerprint}


# What a set is judged by.


@pytest.mark.parametrize("entry", [MIXED, TAUGHT], ids=["diffusion_mixup", "dmp"])
@pytest.mark.parametrize("canaries", [0, 40])
def test_the_probe_trains_on_the_judged_set_and_is_compared_with_the_studys_own_model(
    digits: Records, entry: dict[str, Any], canaries: int
) -> None:
    undefended, defended = results_of(digits, entry, plan__canaries=canaries)
    for target in range(2):
        quality = quality_of(defended, target)
        [images] = synthetic_sets(quality.generated)
        assert images.key == quality.images.key
        assert images.generator.key == quality.images.generator.key
        [own] = synthetic_sets(defended.targets[target].signals.model)
        assert own.key == images.key
        # No model of its own: the one that every setting is compared with.
        assert quality.real.key == undefended.targets[target].signals.model.key
        np.testing.assert_array_equal(quality.members, quality.images.generator.positions)
        np.testing.assert_array_equal(quality.generated.positions, quality.members)
        assert not np.isin(quality.heldout, quality.members).any()


def test_the_judged_members_are_the_plans_and_the_canaries_drawn(digits: Records) -> None:
    blueprint, [_, setting] = study_of(digits, MIXED, **CHANGES | {"plan__canaries": 40})
    result = blueprint.result(setting)
    counts = []
    for target in range(2):
        plan, members = blueprint.plan(target), quality_of(result, target).members
        drawn = np.isin(plan[Role.CANARY], members)
        np.testing.assert_array_equal(
            members, np.sort(np.concatenate([plan[Role.TARGET_IN], plan[Role.CANARY][drawn]]))
        )
        assert 8 < drawn.sum() < 32
        assert not np.isin(quality_of(result, target).heldout, plan[Role.CANARY]).any()
        counts.append(len(members))
    assert min(counts) > 40


def test_a_study_with_generated_images_makes_no_set_for_the_probe_alone(digits: Records) -> None:
    """A target and a shadow of each of two targets: four sets, four generators, with canaries or without."""
    for canaries in (0, 40):
        _, defended = results_of(digits, plan__canaries=canaries)
        sets = {one.key for one in synthetic_sets(defended)}
        assert len(sets) == len({one.key for one in generators_of(defended)}) == 4


# What else stands in names.


def test_scores_of_a_generator_are_named_by_what_finds_the_nearest_copies(
    digits: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> dict[str, str]:
        _, result = results_of(digits, plan__targets=1)
        found = result.targets[0].scores
        return {one.measure: one.key for one in found if isinstance(one, GeneratorScoresRecipe)}

    before = keys()
    assert set(before) == {"denoising_loss/generator", "nearest_copy/generator"}
    for stage in ("quality", "leak", "metrics"):
        with monkeypatch.context() as raised:
            raised.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
            assert keys()["nearest_copy/generator"] != before["nearest_copy/generator"]
    with monkeypatch.context() as raised:
        raised.setitem(VERSIONS, "robustness", VERSIONS["robustness"] + 1)
        assert keys() == before
