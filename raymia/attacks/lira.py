"""LiRA: is the target's confidence in a record that of models that trained on it, or of models that did not?

Carlini et al. 2022 (arXiv 2112.03570). phi is a model's logit-scaled confidence; over the reference models that are IN
(OUT of) a record it is taken as normal, with their median mu as its mean, as in the authors' code, and a variance by
one of several rules (`raymia.attacks.variance_prior`). Of several queries a record's score is the mean of the queries'
scores, again as in the authors' code (the paper has one multivariate normal, for which 16 models are too few).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from raymia.attacks.confidences import bounded_confidence, compared
from raymia.attacks.group_statistics import Floats, GroupMoments, Mask, group_median, group_moments
from raymia.attacks.protocol import AttackerView, Needs, ReferenceRecords, Scores, Signals
from raymia.attacks.variance_prior import OWN_VARIANCES, VariancePrior, moderated, pooled_residuals, spread_of_all
from raymia.errors import InputError

ENOUGH_MODELS = 63
"""Models of a group that suffice for a variance of each record's own: about 64 (Carlini et al.), less the one by which
a rehearsal on the references has fewer, so that an attack and its rehearsal follow one rule."""


class LiraForm(StrEnum):
    """What is compared; each is also its attack's name.

    ONLINE: the likelihood of phi under IN and OUT. OFFLINE: how far phi lies above OUT's. OFFLINE_TWO_SIDED: how far it
    lies from OUT's on either side, which is what the authors' code scores and counts a low confidence as membership.
    """

    ONLINE = "lira_online"
    OFFLINE = "lira_offline"
    OFFLINE_TWO_SIDED = "lira_offline_two_sided"


class VarianceRule(StrEnum):
    """AUTOMATIC: PER_EXAMPLE where every record has enough models in every group, else FIXED_RESIDUAL.

    PER_EXAMPLE: each record's own. FIXED_RESIDUAL: one a group and query, of the deviations from the records' means.
    FIXED_OFFICIAL: one for all, of all IN confidences, used for OUT too (offline: of all OUT ones); the authors' rule.
    SHRUNK: each record's own, drawn towards the others' as far as these agree.
    """

    AUTOMATIC = "automatic"
    PER_EXAMPLE = "per_example"
    FIXED_RESIDUAL = "fixed_residual"
    FIXED_OFFICIAL = "fixed_official"
    SHRUNK = "shrunk"


@dataclass(frozen=True)
class _State:
    """inside: of the variances of IN confidences, None for offline attacks; outside: of OUT ones."""

    inside: VariancePrior | None
    outside: VariancePrior


@dataclass(frozen=True)
class Lira:
    """Scores, mean over the queries:

    online: log N(phi; mu_in, s²_in) - log N(phi; mu_out, s²_out). Offline: (phi - mu_out) / s_out; the paper's
    probability, the normal distribution function of this, orders the records of one query alike, but rounds to 1 for
    the surest ones, which would tie. Two-sided: -log N(phi; mu_out, s²_out).

    Confidences count as at most 1e4, deviations as at least 1e-6 nats: no score is NaN or infinite.
    """

    form: LiraForm
    rule: VarianceRule = VarianceRule.AUTOMATIC

    @property
    def name(self) -> str:
        return str(self.form) if self.rule is VarianceRule.AUTOMATIC else f"{self.form}_{self.rule}"

    @property
    def knowledge(self) -> str:
        models = "reference models, some of them trained on the record" if self._online else "reference models"
        return f"the posteriors, the record's true class and {models}"

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.IN_REFERENCES if self._online else Needs.OUT_REFERENCES})

    @property
    def _online(self) -> bool:
        return self.form is LiraForm.ONLINE

    def fit(self, view: AttackerView, rng: np.random.Generator) -> _State:
        """Learn the variances' rule from the references; nothing is random.

        Raises InputError where the records have too few models for it.
        """
        if view.records is None:
            raise ValueError(f"attack {self.name} was given no references")
        least = view.records.references.least()
        fewest = min(least) if self._online else least[1]
        rule = self.rule
        if rule is VarianceRule.AUTOMATIC:
            rule = VarianceRule.PER_EXAMPLE if fewest >= ENOUGH_MODELS else VarianceRule.FIXED_RESIDUAL
        if rule is VarianceRule.PER_EXAMPLE:
            self._check(fewest >= 2, "every record")
            return _State(OWN_VARIANCES if self._online else None, OWN_VARIANCES)
        inside, outside = _moments(view.records)
        if rule is VarianceRule.FIXED_OFFICIAL:
            prior = spread_of_all(inside if self._online else outside)
            return _State(prior if self._online else None, prior)
        groups = (inside, outside) if self._online else (outside,)
        self._check(all(group.freedom.any() for group in groups), "some record")
        estimate = moderated if rule is VarianceRule.SHRUNK else pooled_residuals
        return _State(estimate(inside) if self._online else None, estimate(outside))

    def score(self, state: _State, block: Signals) -> Scores:
        """See the class; float64[N]."""
        phi = compared(block, bounded_confidence)
        outside_NQ, variance_NQ = _normal(phi.references_MNQ, phi.out_MN, state.outside)
        if self.form is LiraForm.OFFLINE:
            return ((phi.own_NQ - outside_NQ) / np.sqrt(variance_NQ)).mean(axis=1)
        score_NQ = -_log_density(phi.own_NQ, outside_NQ, variance_NQ)
        if state.inside is not None:
            score_NQ += _log_density(phi.own_NQ, *_normal(phi.references_MNQ, phi.in_MN, state.inside))
        return score_NQ.mean(axis=1)

    def _check(self, enough: bool, whose: str) -> None:
        if not enough:
            kinds = "IN and two OUT of" if self._online else "OUT of"
            raise InputError(
                f"attack {self.name} takes variances over reference models and needs two {kinds} {whose}:"
                " give more references, or leave the attack out"
            )


def _moments(records: ReferenceRecords) -> tuple[GroupMoments, GroupMoments]:
    """phi's moments over the IN models and over the OUT models of every record, read block by block."""
    inside, outside = [], []
    for block in records.blocks():
        phi_MNQ = block.references.measured(bounded_confidence, block.labels_N)
        inside.append(group_moments(phi_MNQ, block.references.in_MN))
        outside.append(group_moments(phi_MNQ, block.references.out_MN))
    return GroupMoments.joined(inside), GroupMoments.joined(outside)


def _normal(phi_MNQ: Floats, mask_MN: Mask, prior: VariancePrior) -> tuple[Floats, Floats]:
    """mu and s² of a group."""
    return group_median(phi_MNQ, mask_MN), prior.variance(group_moments(phi_MNQ, mask_MN))


def _log_density(phi_NQ: Floats, mean_NQ: Floats, variance_NQ: Floats) -> Floats:
    """log N(phi; mu, s²)."""
    return -0.5 * ((phi_NQ - mean_NQ) ** 2 / variance_NQ + np.log(2 * np.pi * variance_NQ))
