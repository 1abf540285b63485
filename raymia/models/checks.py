"""Checks of what a user may set about a model."""

from collections.abc import Sequence

from raymia.errors import InputError


def image_shape(model: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W), or InputError for feature vectors."""
    if len(input_shape) != 3:
        raise InputError(f"model {model} needs images, and these records are feature vectors: use --model mlp")
    channels, height, width = input_shape
    return channels, height, width


def positive_int(model: str, option: str, value: object) -> int:
    """The value, or InputError unless it is an integer from 1 up."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"model.options.{option} of {model} must be an integer from 1 up, got {value!r}")
    return value


def positive_ints(model: str, option: str, values: object, count: int | None = None) -> tuple[int, ...]:
    """The values, or InputError unless they are a list of integers from 1 up, `count` of them where it is given."""
    wanted = "a list of integers" if count is None else f"a list of {count} integers"
    if not isinstance(values, Sequence) or isinstance(values, str) or count not in (None, len(values)):
        raise InputError(f"model.options.{option} of {model} must be {wanted} from 1 up, got {values!r}")
    return tuple(positive_int(model, f"{option}[{index}]", value) for index, value in enumerate(values))
