"""The attacks raymia knows by name, and those other packages add."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from raymia.attacks.adversarial_queries import SUFFIX, AdversarialQueries
from raymia.attacks.attack_p import AttackP
from raymia.attacks.attack_r import AttackR
from raymia.attacks.calibrated_loss import CalibratedLoss
from raymia.attacks.entropy import Entropy
from raymia.attacks.gradient_norm import GradientNorm
from raymia.attacks.label_only import LabelOnlyAugmentation, LabelOnlyGap
from raymia.attacks.lira import Lira, LiraForm, VarianceRule
from raymia.attacks.loss import Loss
from raymia.attacks.modified_entropy import ModifiedEntropy
from raymia.attacks.per_class import PerClass
from raymia.attacks.protocol import Attack
from raymia.attacks.quantile_regression import QuantileRegression
from raymia.attacks.rmia import Rmia
from raymia.attacks.salem_nn import NN_SORTED_LOGITS, NN_TOP3_POSTERIORS
from raymia.errors import InputError

ENTRY_POINT_GROUP = "raymia.attacks"

_BUILT_IN: tuple[Attack, ...] = (
    Loss(),
    Entropy(),
    ModifiedEntropy(),
    PerClass(Loss()),
    PerClass(Entropy()),
    PerClass(ModifiedEntropy()),
    NN_TOP3_POSTERIORS,
    NN_SORTED_LOGITS,
    *(Lira(form, rule) for form in LiraForm for rule in VarianceRule),
    *(Rmia(online, counts) for counts in (True, False) for online in (True, False)),
    AttackR(),
    AttackP(),
    CalibratedLoss(online=True),
    CalibratedLoss(online=False),
    QuantileRegression(),
    LabelOnlyGap(),
    LabelOnlyAugmentation(),
    GradientNorm(),
)

ATTACKS: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _BUILT_IN})

# The four attacks of the diffusion and mixed-sample paper.
DEFAULT_ATTACKS = ("loss", "entropy", "modified_entropy", "nn_sorted_logits")

# What a frontier's settings are verified with, chosen beforehand: the strongest known, by what the attacker must train.
STRONG_ATTACKS = ("lira_online", "lira_offline", "rmia", "rmia_offline")


def attack_names() -> tuple[str, ...]:
    """The built-in attacks, then those of installed packages."""
    return tuple(dict.fromkeys((*ATTACKS, *_third_party())))


def attack_named(name: str) -> Attack:
    """The attack of this name: built in, or an `Attack` object under the entry point group `raymia.attacks`.

    With `_adversarial` behind it, the attack with adversarial examples as its queries. A package cannot replace a
    built-in attack. Raises InputError for an unknown name, naming the nearest, and for an entry point that gives no
    attack of its name.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    third_party = _third_party()
    if name in third_party:
        return _loaded(third_party[name])
    if name.endswith(SUFFIX):
        return AdversarialQueries(attack_named(name.removesuffix(SUFFIX)))
    known = (*ATTACKS, *third_party)
    nearest = get_close_matches(name, known, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(nearest)}?" if nearest else f"choose from {', '.join(known)}"
    raise InputError(f"attacks: unknown attack {name!r}; {remedy}")


def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _loaded(point: EntryPoint) -> Attack:
    try:
        attack = point.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        reason = " ".join(str(error).split())
        raise InputError(
            f"attacks: {point.name!r} ({point.value}) cannot be loaded, repair or uninstall its package: {reason}"
        ) from error
    if isinstance(attack, type) or not isinstance(attack, Attack) or attack.name != point.name:
        raise InputError(
            f"attacks: {point.name!r} ({point.value}) is no attack of that name;"
            " its entry point must give an object with that name, knowledge, needs, fit and score"
        )
    return attack
