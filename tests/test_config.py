"""The study's configuration: presets, overrides, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from raymia.config import StudyConfig, build_config
from raymia.errors import InputError
from raymia.yaml_files import parse_assignment, read_yaml


def refusal(overrides: dict[str, Any], preset: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        build_config(preset, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("training.epoch", "training.epochs"),
        ("training.learning_rat", "training.learning_rate"),
        ("trainin.epochs", "training.epochs"),
        ("epochs", "training.epochs"),
        ("part_size", "plan.part_size"),
        ("plan.part-size", "plan.part_size"),
        ("sed", "seed"),
        ("attack", "attacks"),
        ("engine.gpu_per_worker", "engine.gpus_per_worker"),
    ],
)
def test_an_unknown_key_is_named_with_its_near_match(key: str, near: str) -> None:
    message = refusal({key: 3})
    assert f"unknown setting {key!r}" in message
    assert f"did you mean {near!r}" in message


def test_a_key_like_no_other_lists_them_all() -> None:
    message = refusal({"zzz": 3})
    assert "known are attacks, data.dataset" in message
    assert "training.weight_decay" in message


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("training.epochs", 0, "greater than or equal to 1"),
        ("training.epochs", 2.5, "valid integer"),
        ("training.epochs", None, "valid integer"),
        ("training.batch_size", 1, "greater than or equal to 2"),
        ("training.learning_rate", 0, "greater than 0"),
        ("training.learning_rate", float("inf"), "finite"),
        ("training.learning_rate", float("nan"), "finite"),
        ("training.momentum", 1.5, "less than or equal to 1"),
        ("training.weight_decay", -1e-4, "greater than or equal to 0"),
        ("training.optimizer", "sdg", "'sgd' or 'adam'"),
        ("training.schedule", "cosin", "'constant', 'step' or 'cosine'"),
        ("training.augmentation", "crop", "'crop_flip'"),
        ("training.precision", "fp16", "'fp32' or 'bf16'"),
        ("training.gamma", 0, "greater than 0"),
        ("training.warmup", 2, "less than or equal to 1"),
        ("training.checkpoint_every", 0, "greater than or equal to 1"),
        ("plan.part_size", 0, "greater than or equal to 1"),
        ("plan.targets", 0, "greater than or equal to 1"),
        ("plan.kind", "quat", "'quad'"),
        ("data.limit", 0, "greater than or equal to 1"),
        ("data.dataset", 3, "valid string"),
        ("engine.threads_per_worker", 0, "greater than or equal to 1"),
        ("engine.gpus_per_worker", -1, "greater than or equal to 0"),
        ("attacks", [], "at least 1 item"),
        ("attacks", "loss", "valid tuple"),
        ("seed", -1, "greater than or equal to 0"),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: object, why: str) -> None:
    message = refusal({key: value})
    assert message.startswith(f"{key}: ")
    assert why in message
    assert f"got {value!r}" in message


def test_an_element_of_a_list_is_named_by_its_place() -> None:
    assert refusal({"training.milestones": [0.5, 2]}).startswith("training.milestones.1: ")


def test_a_model_option_of_no_plain_kind_is_named_once() -> None:
    assert refusal({"model.options.widths": {"a": 1}}) == (
        "model.options.widths: must be a number, true or false, a text, or a list of these"
    )


def test_a_section_given_a_value_and_a_value_given_a_section_are_refused() -> None:
    assert refusal({"training": 3}).startswith("training: ")
    assert refusal({"seed": 1, "seed.x": 3}) == "seed.x: 'seed' is a value, not a section"


@pytest.mark.parametrize("gpus", [0.5, 1.5])
def test_a_group_takes_whole_gpus(gpus: float) -> None:
    assert "gpus_per_worker must be whole" in refusal({"engine.workers_per_model": 2, "engine.gpus_per_worker": gpus})
    assert build_config(None, {"engine.gpus_per_worker": gpus}).engine.gpus_per_worker == gpus


def test_nesterov_without_momentum_is_refused_before_torch_does() -> None:
    assert "nesterov needs a momentum" in refusal({"training.nesterov": True, "training.momentum": 0})
    assert build_config(None, {"training.nesterov": True}).training.nesterov


def test_a_configuration_cannot_be_changed() -> None:
    config = StudyConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.training.epochs = 3


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training.epochs=30", "training.epochs", 30),
        (" training.learning_rate =0.1", "training.learning_rate", 0.1),
        ("model.options.widths=[4, 8, 8]", "model.options.widths", [4, 8, 8]),
        ("training.nesterov=true", "training.nesterov", True),
        ("data.dataset=a=b.parquet", "data.dataset", "a=b.parquet"),
        ("data.limit=", "data.limit", None),
    ],
)
def test_an_assignment_is_a_key_and_a_yaml_value(text: str, key: str, value: object) -> None:
    assert parse_assignment(text) == (key, value)


@pytest.mark.parametrize("text", ["training.epochs", "=3", " =3", ""])
def test_an_assignment_without_key_or_value_says_how_to_write_one(text: str) -> None:
    with pytest.raises(InputError, match=r"--set .*write it as section\.key=value"):
        parse_assignment(text)


def test_an_assignment_of_broken_yaml_is_refused() -> None:
    with pytest.raises(InputError, match=r"--set attacks=\[loss: the value is not readable"):
        parse_assignment("attacks=[loss")


def test_a_number_in_scientific_notation_needs_no_dot() -> None:
    key, value = parse_assignment("training.learning_rate=5e-4")
    assert build_config(None, {key: value}).training.learning_rate == 5e-4


def test_a_preset_is_found_by_name_by_path_and_by_data_set(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("description: mine\ntraining: {epochs: 7}\n")
    assert build_config("digits", {}).plan.part_size == 150
    assert build_config(str(own), {}).training.epochs == 7
    assert build_config(None, {}) == build_config("digits", {})
    assert build_config(None, {"data.dataset": "cifar10"}) == build_config("cifar10_desk", {})
    assert build_config(None, {"data.dataset": "cifar100"}).data.dataset == "cifar100"


def test_a_data_set_of_the_users_own_takes_the_defaults(tmp_path: Path) -> None:
    path = str(tmp_path / "records.parquet")
    Path(f"{path}.yaml").write_text("training: {epochs: 7}\n")
    assert build_config(None, {"data.dataset": path}).training == StudyConfig().training
    assert build_config(None, {"data.dataset": "cifar10_paper"}).training == StudyConfig().training


def test_overrides_win_over_the_preset_and_leave_the_rest() -> None:
    changed = build_config("digits", {"training.epochs": 3, "model.options.widths": [4, 8, 8]})
    assert changed.training == build_config("digits", {}).training.model_copy(update={"epochs": 3})
    assert changed.model.options == {"widths": (4, 8, 8)}


def test_an_unknown_preset_is_named_with_its_near_match() -> None:
    message = refusal({}, preset="cifar10_dsk")
    assert "unknown preset 'cifar10_dsk': did you mean 'cifar10_desk'?" in message
    assert "path of a YAML file" in message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"training: {epochs: 7\n", "not readable as YAML at line 2"),
        (b"- 1\n", "must hold a YAML mapping"),
        (b"", "must hold a YAML mapping"),
        (b"\xff\xfe\x00", "not readable as YAML"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {why}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read \(No such file"):
        read_yaml(tmp_path / "gone.yaml")


@pytest.mark.parametrize("preset", ["digits", "cifar10_desk", "cifar10_paper", "cifar100_desk", "cifar100_paper"])
def test_the_resolved_configuration_round_trips(preset: str, tmp_path: Path) -> None:
    config = build_config(preset, {"model.options.widths": [4, 8, 8], "attacks": ["loss"], "training.warmup": 0.1})
    path = tmp_path / "resolved.yaml"
    path.write_text(config.to_yaml())
    assert build_config(str(path), {}) == config
    assert set(yaml.safe_load(config.to_yaml())["training"]) == set(type(config.training).model_fields)


def test_the_papers_presets_hold_its_settings() -> None:
    for name in ("cifar10_paper", "cifar100_paper"):
        config = build_config(name, {})
        assert (config.training.epochs, config.training.learning_rate) == (200, 0.01)
        assert config.model.name == "resnet18"
        assert config.plan.part_size is None
        assert config.attacks == ("loss", "entropy", "modified_entropy", "nn_sorted_logits")
