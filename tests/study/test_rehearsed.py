"""What a study refuses before anything trains, since a training under its defenses could not begin or take a step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import raymia.study.study
from raymia.errors import InputError
from raymia.recipes.ground import Ground
from raymia.space_files import list_spaces
from raymia.study.facts import DataFacts
from raymia.training.defense import Composed
from tests.study.test_standing import space, study

WEAK = {"epsilon": 0.1, "steps": 1}
AWP = {"gamma": 0.01}
MIXUP = {"alpha": 0.5}
DEMEM = {"strength": 0.5}
PRIVATE = {"noise_multiplier": 1.0, "batch_size": 10}

# Many small images of ten classes: enough of them for every part of a plan with a reserve.
PICTURES = DataFacts("0" * 32, 1797, (3, 16, 16), tuple("0123456789"), (180,) * 10, 0, "pictures")


def refusal(*entries: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        study(space({"settings": list(entries)}), **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"awp": AWP}, "awp: perturbs adversarial training; write pgd_at, trades or mart beside it"),
        ({"mixup": MIXUP, "awp": AWP}, "awp: perturbs adversarial training; write pgd_at, trades or mart beside it"),
        ({"demem": DEMEM, "pgd_at": WEAK}, "demem: would not see what pgd_at crafts; write demem after it"),
        ({"trades": WEAK, "mixup": MIXUP}, "write trades after it"),
        ({"mart": WEAK, "demem": DEMEM, "mixup": MIXUP}, "write mart after it"),
    ],
    ids=lambda one: "+".join(one) if isinstance(one, dict) else "",
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_could_not_take_a_step_is_refused_wherever_it_stands(
    entry: dict[str, Any], expected: str, workers: int
) -> None:
    changes = {"engine__workers_per_model": workers}
    assert expected in refusal(entry, **changes)
    assert expected in refusal({"mixup": MIXUP}, {"pgd_at": WEAK}, entry, **changes)


@pytest.mark.parametrize("beside", [{}, {"pgd_at": WEAK}, {"hamp": {"gamma": 0.5}}], ids=lambda one: "".join(one))
def test_what_trains_by_one_worker_is_refused_for_two(beside: dict[str, Any]) -> None:
    entry = {"dp_sgd": PRIVATE} | beside
    assert "set engine.workers_per_model to 1" in refusal(entry, engine__workers_per_model=2)
    study(space({"settings": [entry]}))
    remembering = {"pgd_at": WEAK, "demem": DEMEM | {"mode": "topk_mem"}}
    assert "set engine.workers_per_model to 1" in refusal(remembering, engine__workers_per_model=2)


@pytest.mark.parametrize("mode", ["var", "std", "var_low", "var_high", "class_variance", "topk_mem"])
def test_every_mode_of_demem_passes(mode: str) -> None:
    for method in ({}, {"pgd_at": WEAK}, {"trades": WEAK}):
        study(space({"settings": [{**method, "demem": DEMEM | {"mode": mode}}]}))


@pytest.mark.parametrize(
    "entry",
    [
        {"pgd_at": WEAK, "awp": AWP},
        {"mixup": MIXUP, "trades": WEAK, "awp": AWP, "demem": DEMEM},
        {"trades_awp": WEAK, "demem": DEMEM},
        {"dp_sgd": PRIVATE, "pgd_at": WEAK, "hamp": {"gamma": 0.5}},
        {"diffusion_mixup": {"subset": 0.5, "per_class": 4, "source": "members"}, "pgd_at": WEAK},
        {"relaxloss": {"alpha": 1.0}, "pgd_at": WEAK, "early_stopping": {"fraction": 0.5}},
    ],
    ids="+".join,
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_can_train_passes(entry: dict[str, Any], workers: int) -> None:
    if "dp_sgd" not in entry or workers == 1:
        study(space({"settings": [entry]}), engine__workers_per_model=workers)


@pytest.mark.parametrize("name", [one.name for one in list_spaces()])
def test_every_built_in_space_passes(name: str) -> None:
    [built_in] = [one for one in list_spaces() if one.name == name]
    plan = {"plan__part_size": 100, "plan__targets": 4, "plan__references": 0}
    found = study(built_in, PICTURES, model__name="cnn", training__batch_size=16, **plan)
    assert found.settings[0].label == "none"


def test_nothing_else_is_moved_by_it() -> None:
    """Neither torch's random state nor numpy's, whether the study passes or not."""
    torch.manual_seed(7)
    np.random.seed(7)
    before, numbers = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # type: ignore[index]
    study(space({"settings": [{"trades": WEAK, "awp": AWP}, {"dp_sgd": PRIVATE}, {"dropout": {"rate": 0.5}}]}))
    refusal({"trades": WEAK, "mixup": MIXUP})
    refusal({"awp": AWP})
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # type: ignore[index]


def test_a_trainings_number_of_members_is_asked_of_the_parts_that_need_no_artifact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DP-SGD finds its noise by how many there are."""
    asked: list[tuple[tuple[str, ...], int]] = []
    rehearse: Callable[..., None] = raymia.study.study.rehearse

    def watched(ground: Ground, defense: Composed, members: int) -> None:
        asked.append((tuple(part.name for part in defense.parts), members))
        rehearse(ground, defense, members)

    monkeypatch.setattr(raymia.study.study, "rehearse", watched)
    study(
        space(
            {"settings": [{"mixup": MIXUP}, {"dp_sgd": {"epsilon": 8.0}}, {"hamp": {"gamma": 0.5}, "dp_sgd": PRIVATE}]}
        )
    )
    assert asked == [(("dp_sgd",), 40), (("hamp", "dp_sgd"), 40)]


def test_feature_vectors_have_no_adversarial_images() -> None:
    features = DataFacts("0" * 32, 1797, (8,), tuple("0123456789"), (180,) * 10, 0, "features")
    message = refusal({"pgd_at": WEAK}, facts=features, model__name="mlp", model__options={})
    assert message.startswith("pgd_at: crafts adversarial images")
    study(space({"settings": [{"demem": DEMEM, "mixup": MIXUP}]}), features, model__name="mlp", model__options={})


def test_a_part_that_needs_a_model_first_is_not_tried() -> None:
    """What it needs would have to be trained; the parts beside it are tried without it."""
    study(space({"settings": [{"distillation": None, "mixup": MIXUP}, {"selena": {"sub_models": 3, "non_models": 1}}]}))
    assert refusal({"distillation": None, "awp": AWP}).startswith("awp: perturbs")
    assert refusal({"memguard": {"budget": 1}, "awp": AWP}).startswith("awp: perturbs")
