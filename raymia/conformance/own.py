"""raymia's own attacks on the golden arrays, asked as a user asks them: by the arrays of an audit."""

from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from raymia.attacks import attack_named, run_attack
from raymia.auditing.evidence import evidence_of
from raymia.conformance.check import base_name
from raymia.conformance.golden import ANSWERS, MODEL, Arrays, Scores, read_arrays, read_expected
from raymia.recipes.trained import TrainedModel
from raymia.seeds import generator
from raymia.training.defense import Composed


def own_scores(seed: int = 0) -> dict[str, Scores]:
    """float64[N] of every attack that has expected scores. seed: of RMIA's tuning."""
    arrays: dict[str, Any] = dict(read_arrays(ANSWERS))
    evidence = evidence_of(arrays, MappingProxyType({}), probabilities=False, equalize=False, seed=seed)
    found = {}
    for name in dict.fromkeys(base_name(one) for one in read_expected()):
        if name == "gradient_norm":
            found[name] = _gradient_norms(read_arrays(MODEL))
            continue
        found[name] = run_attack(
            attack_named(name), evidence.view, evidence.target, generator(seed, "conformance", name)
        )
    return found


def _gradient_norms(model: Arrays) -> Scores:
    """Of a linear model with the golden weights."""
    linear = torch.nn.Linear(model["weights"].shape[1], len(model["bias"]))
    linear.load_state_dict({"weight": torch.from_numpy(model["weights"]), "bias": torch.from_numpy(model["bias"])})
    trained = TrainedModel(linear.eval(), Composed(()), torch.device("cpu"))
    norms: Scores = trained.gradient_norms(model["inputs"], model["labels"].astype(np.int64))
    return -norms
