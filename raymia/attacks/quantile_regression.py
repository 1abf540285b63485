"""Quantile regression: is the target surer of this record than it is of such records when it did not train on them?"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.gaussian_regressor import GaussianRegressor, Steps, train_gaussian_regressor
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals
from raymia.errors import InputError

_STEPS = Steps()
_LARGEST_MARGIN = 1e4  # a posterior of exactly 0 has the logit -inf
_FEWEST = 10


@dataclass(frozen=True)
class QuantileRegression:
    """Score (s - mu) / sigma of the margin s = z_y - max of the other logits, query 0 (Bertran et al. 2023, arXiv
    2307.03694).

    mu and sigma are a small net's prediction from the record and its class, trained on the target's answers to the
    population, which it did not train on (their Gaussian head). Guessing "member" where the score exceeds the standard
    normal quantile of 1 - alpha has about the false-positive rate alpha. The authors' net is a pretrained ConvNeXt; a
    small one sees less. No other model is trained. Margins count as at most 1e4.
    """

    name: ClassVar[str] = "quantile_regression"
    knowledge: ClassVar[str] = "the logits and the record, and the same of a population"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.POPULATION, Needs.IMAGES})

    steps: Steps = _STEPS

    def fit(self, view: AttackerView, rng: np.random.Generator) -> GaussianRegressor:
        """Train the net. Raises InputError where the population's records are not given, or are fewer than 10."""
        population = view.population
        if population is None or population.inputs_N is None or len(population) < _FEWEST:
            raise InputError(
                f"attack {self.name} needs {_FEWEST} or more population records with their images:"
                " give them, or leave the attack out"
            )
        return train_gaussian_regressor(
            population.inputs_N, population.labels_N, _margin(population), view.classes, self.steps, rng
        )

    def score(self, state: GaussianRegressor, block: Signals) -> Scores:
        """See the class; float64[N]."""
        return state.standardized(_inputs(block), block.labels_N, _margin(block))


def _inputs(signals: Signals) -> NDArray[Any]:
    if signals.inputs_N is None:
        raise ValueError("quantile regression was given no images")
    return signals.inputs_N


def _margin(signals: Signals) -> Scores:
    """float64[N]."""
    logits_NC = signals.logits_NQC[:, 0].astype(np.float64)
    rows = np.arange(len(signals))
    true_N = logits_NC[rows, signals.labels_N]
    logits_NC[rows, signals.labels_N] = -np.inf
    return np.clip(true_N - logits_NC.max(axis=1), -_LARGEST_MARGIN, _LARGEST_MARGIN)
