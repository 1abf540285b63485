"""One run of `synthesize`, from the checked command line to the images on disk."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from raymia.clean import REFERENCES
from raymia.config import StudyConfig
from raymia.defenses import build_defense
from raymia.diffusion.export import export_images
from raymia.engine import cluster as ray_cluster
from raymia.errors import InputError
from raymia.keys import content_key
from raymia.recipes.model import ModelRecipe
from raymia.recipes.quality import QualityRecipe
from raymia.recipes.recipe import Recipe, ready
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.records import Records, check_source, load_records
from raymia.report.synthesis import synthesis_lines
from raymia.space import Setting, Space, single_space
from raymia.store import Inspection
from raymia.study.facts import facts_of, recall_facts, remember_facts
from raymia.study.folder import check_place
from raymia.study.lock import held
from raymia.study.making import make_all
from raymia.study.place import place_of
from raymia.study.publish_synthetic import counts, write_set
from raymia.study.references import references
from raymia.study.study import Study, assemble
from raymia.training.defense import Composed

RECORD = "synthesis.json"
_ONLY_GENERATED = {"subset": 0.0, "alpha": 0.0}


@dataclass(frozen=True)
class Order:
    """What is to be made: the images, and their quality where records remain to judge them by."""

    images: SyntheticRecipe
    quality: QualityRecipe | None

    @property
    def recipe(self) -> Recipe:
        """The recipe that all else hangs on."""
        return self.images if self.quality is None else self.quality

    @property
    def key(self) -> str:
        """Its identity."""
        return content_key("synthesis", [self.recipe.key])


@dataclass
class SynthesisSession:
    """What the command line asked for. wanted: hyperparameters of `diffusion_mixup`. target: whose members are
    learned, None for every record. results: a folder, or the URI of one that every node reaches. out: for the images.
    """

    config: StudyConfig
    wanted: Mapping[str, Any]
    target: int | None
    results: str
    out: str | None
    address: str | None
    fresh: bool
    quiet: bool

    def __post_init__(self) -> None:
        self.console = Console()
        self.local, self.store = place_of(self.results, self.fresh)
        self.defense = build_defense("diffusion_mixup", {**_ONLY_GENERATED, **self.wanted})

    def run(self) -> int:
        """Make the images; the exit code. Raises InputError before anything is trained or written."""
        check_place(self.local)
        data = self.config.data
        check_source(data.dataset, data.limit)
        facts = facts_of(load_records(**data.model_dump())) if data.dataset == "digits" else None
        facts = facts or recall_facts(data, self.store)
        if facts is not None:
            study = assemble(self.config, self._space(), facts)
            order = self._order(study)
            place = self._place(study, order)
            if all(ready(one, self.store, Inspection()) for one in (order.images, order.recipe)):
                with self._begun(study, order, place):
                    return self._finish(study, order, place)
        with ray_cluster.started(self.address, self.config.engine) as cluster:
            return self._run_on(cluster)

    def _run_on(self, cluster: ray_cluster.Cluster) -> int:
        from raymia.engine.read import read_records

        records = read_records(**self.config.data.model_dump())
        facts = facts_of(records)
        study = assemble(self.config, self._space(), facts)
        order = self._order(study)
        place = self._place(study, order)
        ground = study.blueprint.ground
        ray_cluster.check_nodes(cluster, self.store, study.config.training.precision, ground.device)
        with self._begun(study, order, place):
            remember_facts(self.config.data, facts, self.store)
            self._make(order, records)
            return self._finish(study, order, place)

    def _space(self) -> Space:
        return single_space("synthesize", "diffusion_mixup", {**_ONLY_GENERATED, **self.wanted})

    def _order(self, study: Study) -> Order:
        blueprint = study.blueprint
        if self.target is None:
            everything = np.arange(blueprint.ground.records)
            nobody = np.zeros(0, dtype=np.int64)
            epochs = frozenset({study.config.training.epochs})
            learner = ModelRecipe(blueprint.ground, Composed((self.defense,)), everything, nobody, ("all",), epochs)
            (images,) = (one for one in learner.requires() if isinstance(one, SyntheticRecipe))
            return Order(images, None)
        setting = Setting(Composed((self.defense,)))
        (quality,) = blueprint.target(setting, self.target).quality
        return Order(quality.images, quality)

    def _place(self, study: Study, order: Order) -> Path:
        """The folder for the images. Raises InputError where it holds others."""
        place = Path(self.out) if self.out else self.local / self._name(study, order)
        if place.exists() and not place.is_dir():
            raise InputError(f"--out {place}: is a file; give a folder")
        record = place / RECORD
        if record.exists():
            try:
                found = json.loads(record.read_text(encoding="utf-8"))["key"]
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{record} is damaged; remove the folder, or give another --out") from None
            if found != order.key:
                raise InputError(
                    f"--out {place}: holds images of another generator, classifier or setting; give another folder"
                )
        elif place.exists() and any(path.name != ".lock" for path in place.iterdir()):
            raise InputError(f"--out {place}: is not empty; give another folder")
        return place

    def _name(self, study: Study, order: Order) -> str:
        return f"synthetic-{study.dataset}-{order.key[:8]}"

    @contextmanager
    def _begun(self, study: Study, order: Order, place: Path) -> Iterator[None]:
        """Hold the folder, and say before anything is made whose it is and what it stands on."""
        # Beside the results whatever --out is: there `raymia clean` looks for what is still used.
        own = self.local / self._name(study, order)
        apart = own.resolve() != place.resolve()
        with held(place), held(own) if apart else nullcontext():
            record = {"key": order.key, "config": study.config.model_dump(mode="json"), "images": dict(self.wanted)}
            (place / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            (own / REFERENCES).write_text(references([order.recipe]), encoding="utf-8")
            yield

    def _make(self, order: Order, records: Records) -> None:
        """Have it made, under the live view."""
        for name in make_all([order.recipe], records, self.store, self.console, self.quiet):
            self._say(f"damaged, rebuilt: {name}", style="yellow")

    def _finish(self, study: Study, order: Order, place: Path) -> int:
        names = study.facts.class_names
        found = order.images.read(self.store)
        path = export_images(found, self.store, names, place / "images.parquet")
        pages = write_set(place, order.images, order.quality, names, study.dataset, self.store)
        numbers = None if order.quality is None else order.quality.open(self.store)
        for line in synthesis_lines(counts(order.images, names, self.store), numbers):
            self._say(line)
        if order.quality is None:
            self._say("Every record was learned: none remains to judge the images by, or to see what they give away.")
        self._say(f"images   {path}  (use them with --dataset {path})")
        for page in pages:
            self._say(f"{'picture' if page.suffix == '.png' else 'page':<8} {page}")
        return 0

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
