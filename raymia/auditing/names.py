"""What the arrays of an audit are called, and which make sense together only."""

from collections.abc import Mapping

from raymia.auditing.stored_array import Array
from raymia.errors import InputError
from raymia.yaml_files import suggestion

LARGE = ("reference_logits", "population_reference_logits")
"""Arrays that need not fit in memory."""

_TARGET = ("target_logits", "labels", "member")
# Arrays that make sense together only: one asks for all of its companions.
_COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "reference_logits": ("reference_member",),
    "reference_member": ("reference_logits",),
    "shadow_logits": ("shadow_labels", "shadow_member"),
    "shadow_labels": ("shadow_logits", "shadow_member"),
    "shadow_member": ("shadow_logits", "shadow_labels"),
    "population_logits": ("population_labels",),
    "population_labels": ("population_logits",),
    "population_reference_logits": ("population_logits", "population_labels", "reference_logits"),
}
_KNOWN = (*_TARGET, "id", *_COMPANIONS)


def check_names(arrays: Mapping[str, Array]) -> None:
    """Raise InputError for an array that nobody knows, and for one that is missing."""
    for name in arrays:
        if name not in _KNOWN:
            raise InputError(f"unknown array {name!r}: {suggestion(name, [*_KNOWN])}; rename it or leave it out")
    for name in _TARGET:
        if name not in arrays:
            raise InputError(f"{name}: is missing; an audit needs {', '.join(_TARGET)}")
    for name in arrays:
        for companion in _COMPANIONS.get(name, ()):
            if companion not in arrays:
                hint = " (all False where no reference trained on the records)" * (companion == "reference_member")
                raise InputError(f"{name} is given without {companion}: give that too{hint}, or leave {name} out")
