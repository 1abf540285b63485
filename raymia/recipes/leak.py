"""Attacks on a defense's generator rather than on its classifier: what the diffusion model and its images give away.

They ask for more than the classifier's answers, so they are measured apart and are never a setting's worst attack.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raymia.keys import array_digest, content_key
from raymia.metrics.membership import AttackMetrics, measure_attack
from raymia.metrics.populations import GENERATOR, named
from raymia.metrics.synthetic_copies import nearest_copy_scores
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.signals import pack_arrays, unpack_arrays
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.seeds import derive_seed, generator
from raymia.store import Store
from raymia.versions import VERSIONS

GeneratorAttack = Literal["denoising_loss", "nearest_copy"]
GENERATOR_ATTACKS: tuple[GeneratorAttack, ...] = ("denoising_loss", "nearest_copy")

# Where members and non-members differ most: early enough to hold detail, late enough to ask for memory (paper1.md §5).
_FRACTIONS = (1 / 5, 4 / 15, 1 / 3)
_DRAWS = 4
_CHUNK = 10_000


@dataclass(frozen=True, eq=False)
class GeneratorScoresRecipe:
    """One attack on a generator: `denoising_loss` (a record it was trained on is denoised better), or `nearest_copy`
    (a generated image lies closer to it).

    positions: int64[N], the scored records; member: bool[N], the generator's own training records among them.
    """

    attack: GeneratorAttack
    images: SyntheticRecipe
    positions: NDArray[np.int64]
    member: NDArray[np.bool_]

    kind = "scores"
    workers = 1
    threads = 1

    @cached_property
    def key(self) -> str:
        content = {
            "attack": self.attack,
            "of": [recipe.key for recipe in self.requires()],
            "positions": array_digest(self.positions),
            "member": array_digest(self.member),
            # Nearest copies are found by what also judges synthetic sets.
            "versions": [VERSIONS[part] for part in ("leak", "metrics", "quality")],
        }
        return content_key("generator scores", content)

    @property
    def measure(self) -> str:
        """What is measured: the attack, on the generator."""
        return named(self.attack, GENERATOR)

    @property
    def seed(self) -> int:
        """The study's."""
        return self.images.ground.config.seed

    @property
    def label(self) -> str:
        return f"{self.attack} on {self.images.label}"

    @property
    def gpus(self) -> float:
        return self.images.ground.config.engine.gpus_per_worker

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"scores/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        # The denoiser's own loss does not depend on the images drawn: settings that share it share the scores.
        return (self.images.generator,) if self.attack == "denoising_loss" else (self.images,)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        scores = self._denoising_scores(bench) if self.attack == "denoising_loss" else self._copy_scores(bench)
        rng = generator(self.seed, "attack", self.attack, "metrics", *self.images.stream)
        metrics = measure_attack(scores, self.member, rng)
        payload = pack_arrays(scores=scores, member=self.member, positions=self.positions)
        meta = {"metrics": metrics.to_dict(), "seconds": time.monotonic() - started}
        bench.store.write(self.artifacts[0], payload, meta)

    def _denoising_scores(self, bench: Bench) -> NDArray[np.float64]:
        # Imported here: diffusers takes seconds to load, and few studies generate images.
        from raymia.diffusion.denoising_loss import denoising_loss
        from raymia.diffusion.noise import NoiseSchedule

        config = self.images.ground.config.diffusion
        images = bench.records.images[self.positions]
        # A generator trained on mirrored images too has learned both.
        views = [images, images[:, :, ::-1]] if config.flip else [images]
        losses = [
            denoising_loss(
                self.images.generator.open(bench.store, bench.device),
                NoiseSchedule.of(config),
                view,
                bench.records.labels[self.positions],
                timesteps=[round(fraction * config.timesteps) for fraction in _FRACTIONS],
                draws=_DRAWS,
                seed=derive_seed(self.seed, "attack", self.attack, *self.images.stream),
            )
            for view in views
        ]
        return -np.mean(losses, axis=0)

    def _copy_scores(self, bench: Bench) -> NDArray[np.float64]:
        images = self.images.open(bench.store).inputs
        records = bench.records.images[self.positions]
        chunks = np.array_split(np.arange(len(images)), max(1, len(images) // _CHUNK))
        flips = self.images.ground.config.diffusion.flip
        return np.maximum.reduce([nearest_copy_scores(records, images.take(chunk), flips) for chunk in chunks])

    def metrics(self, store: Store) -> AttackMetrics:
        """How well the attack did."""
        return AttackMetrics.from_dict(store.read(self.artifacts[0])[1]["metrics"])

    def scores(self, store: Store) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """float64[N] scores, larger = more likely a member, and the truth bool[N]."""
        arrays = unpack_arrays(store.read(self.artifacts[0])[0])
        return arrays["scores"], arrays["member"]
