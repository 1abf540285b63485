"""The quality of a set of generated images, measured against real ones that its generator did and did not see."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raymia.keys import array_digest, content_key
from raymia.metrics.membership import Estimate
from raymia.metrics.synthetic import (
    MOST_IMAGES,
    Pictures,
    SyntheticQuality,
    accuracy_estimate,
    class_balance,
    measure_synthetic,
)
from raymia.models import Classifier
from raymia.models.features import features
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.sheet import Sheet, pick_sheet
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.seeds import generator
from raymia.store import Store
from raymia.versions import VERSIONS


@dataclass(frozen=True, eq=False)
class QualityRecipe:
    """How good a synthetic set is.

    members, heldout: int64 positions of the records the generator learned and of others. real, generated: models
    trained alike on the members and on as many generated images. encoder: an undefended model that saw neither the
    members nor the held-out records; its penultimate features are what distances are taken in.
    """

    images: SyntheticRecipe
    members: NDArray[np.int64]
    heldout: NDArray[np.int64]
    real: ModelRecipe
    generated: ModelRecipe
    encoder: ModelRecipe

    kind = "quality"
    workers = 1
    threads = 1

    @cached_property
    def key(self) -> str:
        content = {
            "of": [recipe.key for recipe in self.requires()],
            "members": array_digest(self.members),
            "heldout": array_digest(self.heldout),
            "version": VERSIONS["quality"],
        }
        return content_key("quality", content)

    @property
    def label(self) -> str:
        return f"quality of {self.images.label}"

    @property
    def gpus(self) -> float:
        return self.images.ground.config.engine.gpus_per_worker

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"quality/{self.key}/sheet", f"quality/{self.key}/numbers")

    def requires(self) -> Sequence[Recipe]:
        return (self.images, self.real, self.generated, self.encoder)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        ground = self.images.ground
        rng = generator(ground.config.seed, "quality", *self.images.stream)
        found = self.images.open(bench.store)
        chosen = np.sort(rng.permutation(len(found.labels))[:MOST_IMAGES])
        encoder = self.encoder.open(bench.store, bench.device).model
        assert isinstance(encoder, Classifier)
        drawn = found.inputs.take(chosen)

        def pictures(images: NDArray[np.uint8]) -> Pictures:
            return Pictures(images, features(encoder, images, bench.device))

        real = bench.records.images
        quality = measure_synthetic(
            pictures(drawn),
            found.labels[chosen],
            pictures(real[self.members]),
            pictures(real[self.heldout]),
            classes=ground.classes,
            encoder=self._encoder_name,
            rng=rng,
            cas=accuracy_estimate([self._accuracy(self.generated, bench)], len(self.heldout)),
            real_accuracy=self._real_accuracy(bench),
            flips=ground.config.diffusion.flip,
        )
        quality = replace(quality, images=len(found.labels), balance=class_balance(found.labels, ground.classes))
        sheet = pick_sheet(self.images, bench.store, drawn, real[self.members], ground.config.diffusion.flip)
        bench.store.write(self.artifacts[0], sheet.pack(), {})
        meta = {"seconds": time.monotonic() - started}
        bench.store.write(self.artifacts[1], json.dumps(quality.to_dict()).encode(), meta)

    def _real_accuracy(self, bench: Bench) -> Estimate | None:
        """None where the set has not as many images as there are members: then the two are no comparison."""
        if self.images.per_class < len(self.members) // self.images.ground.classes:
            return None
        return accuracy_estimate([self._accuracy(self.real, bench)], len(self.heldout))

    @property
    def _encoder_name(self) -> str:
        return f"{self.images.ground.config.model.name} trained on {len(self.encoder.positions):,} other records"

    def _accuracy(self, model: ModelRecipe, bench: Bench) -> float:
        logits_NC = model.answer(bench, max(model.snapshots), self.heldout)[:, 0]
        return float((logits_NC.argmax(axis=1) == bench.records.labels[self.heldout]).mean())

    def open(self, store: Store) -> SyntheticQuality:
        """Read the numbers back."""
        return SyntheticQuality.from_dict(json.loads(store.read(self.artifacts[1])[0]))

    def sheet(self, store: Store) -> Sheet:
        """What the contact sheet shows."""
        return Sheet.unpack(store.read(self.artifacts[0])[0])
