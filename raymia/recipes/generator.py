"""Generators: the recipe that trains a diffusion model on some records."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from raymia.diffusion.noise import NoiseSchedule
from raymia.diffusion.sizes import check_sides
from raymia.errors import InputError
from raymia.keys import array_digest, content_key
from raymia.recipes.ground import Ground
from raymia.recipes.keeper import StoreKeeper, unpack_state
from raymia.recipes.recipe import Bench, Recipe
from raymia.records import Records
from raymia.seeds import derive_seed
from raymia.store import Store
from raymia.versions import VERSIONS

if TYPE_CHECKING:
    from raymia.diffusion.denoiser import Denoiser

# What of the diffusion settings comes after the training: a change in it trains nothing anew.
SAMPLING = frozenset({"sampler", "sampler_steps", "guidance", "clip", "per_class", "shard_size", "max_images"})
# Of an image's variance, at the end of the forward process: more would show in what is drawn.
_MOST_SIGNAL_LEFT = 0.01
_NOT_CONTENT = SAMPLING | {"checkpoint_every"}


@dataclass(frozen=True, eq=False)
class GeneratorRecipe:
    """A diffusion model of the records at `positions` (int64[n]). stream: names its random streams."""

    ground: Ground
    positions: NDArray[np.int64]
    stream: tuple[str | int, ...]

    kind = "generators"

    @cached_property
    def key(self) -> str:
        ground = self.ground
        content = {
            **ground.data,
            "diffusion": ground.config.diffusion.model_dump(mode="json", exclude=set(_NOT_CONTENT)),
            "workers": self.workers,
            "threads": self.threads,
            "device": ground.device,
            "positions": array_digest(self.positions),
            "seed": self.seed,
            "versions": [VERSIONS[part] for part in ("records", "denoiser")],
        }
        return content_key("generator", content)

    @property
    def seed(self) -> int:
        """From the study's seed and the stream."""
        return derive_seed(self.ground.config.seed, "generator", *self.stream)

    @property
    def label(self) -> str:
        return " ".join(["generator ·", *(str(part) for part in self.stream)])

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"generators/{self.key}",)

    @property
    def workers(self) -> int:
        return self.ground.config.engine.workers_per_model

    @property
    def threads(self) -> int:
        return self.ground.config.engine.threads_per_worker

    @property
    def gpus(self) -> float:
        return self.ground.config.engine.gpus_per_worker

    def requires(self) -> Sequence[Recipe]:
        return ()

    def build(self, bench: Bench) -> None:
        # Imported here: diffusers takes seconds to load, and few studies generate images.
        from raymia.diffusion.train import GeneratorPlan, train_denoiser

        config = self.ground.config.diffusion
        self._check_classes(bench.records)
        plan = GeneratorPlan(
            images=bench.records.images[self.positions],
            labels=bench.records.labels[self.positions],
            classes=self.ground.classes,
            config=config,
            seed=self.seed,
            precision=config.precision,
        )
        keeper = StoreKeeper(self.key, lambda _: self.artifacts[0], config.iterations, bench)
        torch.set_num_threads(self.threads)
        train_denoiser(plan, keeper, bench.group, bench.device)
        if bench.group.rank == 0:
            keeper.done()

    def _check_classes(self, records: Records) -> None:
        """Raise InputError where there is nothing to learn a class from: images of it would be drawn all the same."""
        counts = np.bincount(records.labels[self.positions], minlength=self.ground.classes)
        if not counts.all():
            name = records.class_names[int(np.argmin(counts))]
            raise InputError(
                f"{self.label}: none of its {len(self.positions)} records is of class {name!r}; raise plan.part_size, "
                "or leave that class out of the data"
            )

    def open(self, store: Store, device: torch.device) -> "Denoiser":
        """The trained denoiser, in eval mode."""
        from raymia.diffusion.denoiser import build_denoiser

        payload, _ = store.read(self.artifacts[0])
        with torch.random.fork_rng():  # its random start is thrown away, and nobody's stream should feel it
            channels, height, width = self.ground.input_shape
            shape = (channels, height, width)
            denoiser = build_denoiser(self.ground.config.diffusion, shape, self.ground.classes)
        denoiser.load_state_dict(unpack_state(payload))
        return denoiser.to(device).eval()


def check_images(ground: Ground, records: int) -> None:
    """Raise InputError where the study's denoiser cannot be trained on so many of its records."""
    if len(ground.input_shape) != 3:
        raise InputError(
            "these records are feature vectors, of which no images are generated; choose a defense without a generator"
        )
    check_sides(ground.config.diffusion, *ground.input_shape[1:])
    timesteps = ground.config.diffusion.timesteps
    left = NoiseSchedule.of(ground.config.diffusion).alphas_cumprod[-1]
    if left > _MOST_SIGNAL_LEFT:
        raise InputError(
            f"diffusion.beta_end: after {timesteps} timesteps {left:.0%} of an image's variance is left, and drawing "
            "starts from pure noise; raise it, or diffusion.timesteps"
        )
    batch = ground.config.diffusion.batch_size
    if records < batch:
        raise InputError(
            f"diffusion.batch_size is {batch}, and a generator has only {records} images to train on: "
            f"set diffusion.batch_size to {records} or less, or give it more records"
        )
    workers = ground.config.engine.workers_per_model
    if batch < workers:
        raise InputError(f"diffusion.batch_size is {batch} for {workers} workers: set it to {workers} or more")
