"""Synthetic sets: the recipe that draws images from a generator, labels and filters them with a classifier."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raymia.diffusion.drawing import ShardJob, draw_set
from raymia.diffusion.filter import Filter, calibrate
from raymia.diffusion.shards import conditions_of, images_of, with_images, with_verdicts
from raymia.diffusion.synthesis import Synthesis
from raymia.diffusion.synthetic_set import SyntheticSet
from raymia.keys import array_digest, content_key
from raymia.recipes.generator import GeneratorRecipe
from raymia.recipes.ground import Ground
from raymia.recipes.recipe import Bench, Recipe
from raymia.seeds import derive_seed
from raymia.store import Store
from raymia.versions import VERSIONS

if TYPE_CHECKING:
    from raymia.recipes.model import ModelRecipe

Stage = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, eq=False)
class SyntheticRecipe:
    """Images of a generator, `per_class` of each class, that its filter's classifier is sure of.

    held_out: int64 positions of records that the classifier was not trained on, to calibrate it with (none: it is
    not). stream: names the random streams. Shards are kept in a folder that further images only add to.
    """

    ground: Ground
    synthesis: Synthesis
    generator: GeneratorRecipe
    classifier: "ModelRecipe"
    held_out: NDArray[np.int64]
    stream: tuple[str | int, ...]

    kind = "synthetic"
    workers = 1
    # The work is done by a stream of actors; what waits for it holds nothing.
    threads = 0
    gpus = 0.0

    @cached_property
    def folder(self) -> str:
        """Where its shards are, by the content of all that made them."""
        config = self.ground.config.diffusion
        content = {
            "generator": self.generator.key,
            "classifier": self.classifier.key,
            "calibrated": array_digest(self.held_out) if len(self.held_out) else None,
            "labels": self.synthesis.label_rule(config),
            "threshold": self.synthesis.threshold,
            "guidance": self.synthesis.guidance_weight(config),
            "sampler": [config.sampler, self.steps, config.clip, config.shard_size],
            "threads": self.ground.config.engine.threads_per_worker,
            "seed": self.seed,
            "versions": [VERSIONS[part] for part in ("denoiser", "drawing")],
        }
        return f"synthetic/{content_key('shards', content)}"

    @cached_property
    def key(self) -> str:
        return content_key("synthetic", {"folder": self.folder, "per_class": self.per_class})

    @property
    def per_class(self) -> int:
        """Images kept of each class."""
        return self.synthesis.quota(self.ground.config.diffusion, self.ground.classes)

    @property
    def seed(self) -> int:
        """Of the images' noise, from the study's seed and the stream."""
        return derive_seed(self.ground.config.seed, "images", *self.stream)

    @property
    def steps(self) -> int:
        """Of the sampler: the ancestral one goes through all timesteps, whatever is set."""
        config = self.ground.config.diffusion
        return config.timesteps if config.sampler == "ancestral" else config.sampler_steps

    @property
    def label(self) -> str:
        parts = (str(part) for part in self.stream)
        return " ".join(["images ·", *parts, f"· threshold={self.synthesis.threshold:g}"])

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"{self.folder}/set-{self.per_class}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.generator, self.classifier)

    def build(self, bench: Bench) -> None:
        found = draw_set(bench.store, self._job(bench), bench.conveyor, bench.report)
        meta = {"seconds": found.work.seconds, "files": found.files}
        bench.store.write(self.artifacts[0], found.to_json().encode(), meta)

    def _job(self, bench: Bench) -> ShardJob:
        config, engine = self.ground.config.diffusion, self.ground.config.engine
        channels, height, width = self.ground.input_shape
        guidance = self.synthesis.guidance_weight(config)
        rule = Filter(self.synthesis.label_rule(config), self.synthesis.threshold, self._temperature(bench))
        return ShardJob(
            folder=self.folder,
            key=self._made_by(bench.store),
            shape=(height, width, channels),
            classes=self.ground.classes,
            conditional=config.conditional,
            shard_size=config.shard_size,
            per_class=self.per_class,
            max_images=config.max_images,
            threads=engine.threads_per_worker,
            gpus=engine.gpus_per_worker,
            sample_stage=SampleStage(self.generator, bench.store, guidance, self.seed),
            judge_stage=JudgeStage(self.classifier, bench.store, rule),
            metadata={
                "generator": self.generator.key,
                "classifier": self.classifier.key,
                "seed": str(self.seed),
                "guidance": f"{guidance:g}",
                "sampler": config.sampler,
                "steps": str(self.steps),
                "filter": f"{rule.labels}, threshold {rule.threshold:g}, temperature {rule.temperature:g}",
            },
        )

    def _made_by(self, store: Store) -> str:
        """The key that shards carry: of the settings, and of the very weights. A generator that was trained anew on
        another kind of machine has the same settings, and its images must not be mixed with those of the first.
        """
        weights = [store.read(recipe.artifacts[-1])[0] for recipe in (self.generator, self.classifier)]
        return content_key("shards", [self.folder, *(hashlib.sha256(payload).hexdigest() for payload in weights)])

    def _temperature(self, bench: Bench) -> float:
        if not len(self.held_out):
            return 1.0
        logits_NK = self.classifier.open(bench.store, bench.device).logits(bench.records.inputs[self.held_out])
        return calibrate(logits_NK, bench.records.labels[self.held_out])

    def read(self, store: Store) -> SyntheticSet:
        """The set: which images, and how many were drawn for them."""
        return SyntheticSet.from_json(store.read(self.artifacts[0])[0])

    def open(self, store: Store, device: torch.device | None = None) -> "GeneratedImages":
        """The images and their labels, to train on."""
        found = self.read(store)
        return GeneratedImages(StoredImages(found, store), found.labels(store))


@dataclass(frozen=True)
class StoredImages:
    """The images of a synthetic set, read from its shards as they are asked for (`raymia.training.rows`)."""

    found: SyntheticSet
    store: Store

    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.found), *self.found.shape)

    def __len__(self) -> int:
        return len(self.found)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8[m, H, W, C]: the images of these numbers, in their order."""
        return self.found.take(self.store, numbers)


@dataclass(frozen=True)
class GeneratedImages:
    """inputs: uint8[n, H, W, C], on disk. labels: int64[n]."""

    inputs: StoredImages
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class SampleStage:
    """Makes the stage that draws a shard's images: built once in each process that draws."""

    generator: GeneratorRecipe
    store: Store
    guidance: float
    seed: int

    def __call__(self) -> Stage:
        from raymia.diffusion.sampler import Sampler

        device = _device(self.generator.gpus)
        config = self.generator.ground.config.diffusion
        denoiser = self.generator.open(self.store, device)
        sampler = Sampler(denoiser, config, self.guidance, self.seed, device)

        def sample(asked: pa.Table) -> pa.Table:
            ids = asked["id"].to_numpy()
            labels = conditions_of(asked)
            null = np.full(len(ids), denoiser.null_label)
            return with_images(asked, sampler.sample(ids, null if labels is None else labels))

        return sample


@dataclass(frozen=True)
class JudgeStage:
    """Makes the stage that labels and filters a shard's images."""

    classifier: "ModelRecipe"
    store: Store
    rule: Filter

    def __call__(self) -> Stage:
        model = self.classifier.open(self.store, torch.device("cpu"))
        channels, height, width = self.classifier.ground.input_shape

        def judge(drawn: pa.Table) -> pa.Table:
            logits_NK = model.logits(images_of(drawn, (height, width, channels)))
            return with_verdicts(drawn, self.rule.judge(logits_NK, conditions_of(drawn)))

        return judge


def _device(gpus: float) -> torch.device:
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")
