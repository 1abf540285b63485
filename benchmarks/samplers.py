"""DPM-Solver++ against ancestral sampling: how many fewer evaluations of the network, at what cost to CAS."""

import tempfile

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.figure import Figure
from raymia.config import StudyConfig, build_config
from raymia.diffusion.sampler import Sampler
from raymia.metrics.intervals import t_quantile
from raymia.models import Classifier, build_model, model_source_digest
from raymia.recipes.generator import GeneratorRecipe
from raymia.recipes.ground import Ground
from raymia.recipes.model import TrainedModel
from raymia.recipes.recipe import Bench, make
from raymia.records import Records, load_records
from raymia.records.plan import Role, quad_plan
from raymia.seeds import derive_seed
from raymia.store import Store
from raymia.training.defense import Composed, TrainingSet
from raymia.training.loop import Plan, State, train
from raymia.training.run import Alone

SEEDS = 5
PER_CLASS = 100
CLASSIFIERS = 3
MARGIN = 0.02


def equal_teachers(small: bool) -> list[Figure]:
    """Both samplers draw from the same generators; classifiers learn from each set and are tested on real digits."""
    torch.set_num_threads(1)
    records = load_records("digits")
    seeds, per_class, repeats = (2, 6, 1) if small else (SEEDS, PER_CLASS, CLASSIFIERS)
    config = build_config("digits", {"diffusion.iterations": 20, "training.epochs": 2} if small else {})
    found: dict[str, list[float]] = {"dpm_solver++": [], "ancestral": []}
    evaluations: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(records, Store(folder))
        for seed in range(seeds):
            members = quad_plan(len(records), part_size=150, seed=seed, target=0)[Role.TARGET_IN]
            for sampler in found:
                ground = _ground(records, config, sampler)
                generator = GeneratorRecipe(ground, members, ("cas", seed))
                make(generator, bench)
                rows, cost = _drawn(generator, bench, per_class, seed)
                evaluations[sampler] = cost
                found[sampler].append(_accuracy(rows, ground, records, members, seed, repeats))
    return _figures(found, evaluations, per_class * 10)


def _ground(records: Records, config: StudyConfig, sampler: str) -> Ground:
    diffusion = config.diffusion.model_copy(update={"sampler": sampler})
    return Ground(
        config=config.model_copy(update={"diffusion": diffusion}),
        fingerprint=records.fingerprint,
        records=len(records),
        input_shape=(1, 8, 8),
        classes=10,
        source_digest=model_source_digest("cnn"),
        device="cpu",
    )


def _drawn(generator: GeneratorRecipe, bench: Bench, per_class: int, seed: int) -> tuple[TrainingSet, int]:
    """Images of each class, unfiltered, under the class they were drawn for; evaluations of the network for each."""
    denoiser = generator.open(bench.store, bench.device)
    sampler = Sampler(denoiser, generator.ground.config.diffusion, 0.0, seed, bench.device)
    ids = np.arange(per_class * 10)
    labels = ids % 10
    return TrainingSet(sampler.sample(ids, labels), labels), sampler.evaluations


def _accuracy(
    rows: TrainingSet, ground: Ground, records: Records, members: NDArray[np.int64], seed: int, repeats: int
) -> float:
    """Mean accuracy, on every digit that the generator did not see, of classifiers that learned from the rows alone."""
    others = np.setdiff1d(np.arange(len(records)), members)
    config = ground.config
    found = []
    for repeat in range(repeats):
        keeper = _Last()
        last = frozenset({config.training.epochs})
        plan = Plan(rows, 10, config.training, Composed(()), derive_seed(seed, "cas", repeat), last)
        train(_untrained, plan, keeper, Alone(), torch.device("cpu"))
        model = _untrained()
        model.load_state_dict(keeper.weights)
        logits_NK = TrainedModel(model.eval(), Composed(()), torch.device("cpu")).logits(records.inputs[others])
        found.append(float((logits_NK.argmax(axis=1) == records.labels[others]).mean()))
    return float(np.mean(found))


def _untrained() -> Classifier:
    return build_model("cnn", (1, 8, 8), 10)


class _Last:
    """A keeper of the last weights."""

    def load(self) -> State | None:
        return None

    def save(self, state: State) -> None:
        """Nothing is resumed."""

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        self.weights = {name: value.clone() for name, value in weights.items()}

    def report(self, epoch: int) -> None:
        """Nobody watches."""


def _figures(found: dict[str, list[float]], evaluations: dict[str, int], images: int) -> list[Figure]:
    fast, slow = (np.array(found[name]) for name in ("dpm_solver++", "ancestral"))
    differences = fast - slow
    half = t_quantile(0.1, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    low, high = 100 * (differences.mean() - half), 100 * (differences.mean() + half)
    fewer = evaluations["ancestral"] / evaluations["dpm_solver++"]
    how = f"{evaluations['dpm_solver++']} evaluations of the network an image, ancestral {evaluations['ancestral']}"
    shown = ", ".join(f"{100 * value:+.1f}" for value in differences)
    return [
        Figure("network evaluations, ancestral / DPM-Solver++", fewer, "x", (">=", 20), how),
        Figure(
            "accuracy taught by DPM-Solver++ images - by ancestral ones, far end of the 90% interval",
            float(max(abs(low), abs(high))),
            " points",
            ("<", 100 * MARGIN),
            f"[{low:+.2f}, {high:+.2f}] points, paired over {len(differences)} seeds ({shown}); {images} images each, "
            f"unfiltered, tested on real digits: {100 * fast.mean():.1f}% and {100 * slow.mean():.1f}%",
        ),
    ]
