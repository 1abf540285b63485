"""What a study leaves behind of its generated images: a page and a contact sheet of each set, numbers for MLflow."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from raymia.metrics.synthetic import SyntheticQuality
from raymia.recipes.quality import QualityRecipe
from raymia.recipes.result import ResultRecipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.report.synthesis import SynthesisCounts, synthesis_markdown
from raymia.store import Store
from raymia.study.folder import StudyFolder
from raymia.study.study import Study

FOLDER, PAGE, SHEET = "synthetic", "synthetic.md", "contact_sheet.png"


def quality_metrics(quality: Sequence[SyntheticQuality]) -> dict[str, float]:
    """Each number of a setting's generated images, averaged over its targets, by the name MLflow gets it under."""
    if not quality:
        return {}
    found: dict[str, list[float]] = {}
    for one in quality:
        for name, value in _numbers(one):
            found.setdefault(f"synthetic/{name}", []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def _numbers(one: SyntheticQuality) -> Iterator[tuple[str, float]]:
    for name, estimate in (("cas", one.cas), ("real_accuracy", one.real_accuracy)):
        if estimate is not None:
            yield name, estimate.value
    for name, agreement in (("", one.agreement), ("floor_", one.floor)):
        yield f"{name}kid", agreement.kid.mean
        yield f"{name}precision", agreement.precision
        yield f"{name}recall", agreement.recall
        yield f"{name}density", agreement.density
        yield f"{name}coverage", agreement.coverage
        if agreement.frechet is not None:
            yield f"{name}frechet", agreement.frechet
    yield "closer_to_train_pixels", one.pixels.closer.fraction
    yield "closer_to_train_features", one.features.closer.fraction
    for name, near in (("pixels", one.pixels), ("features", one.features)):
        yield f"copies_{name}", near.copies
        yield f"chance_copies_{name}", near.chance_copies
    yield "class_balance_entropy", one.balance.entropy


def drawing_metrics(recipe: ResultRecipe, store: Store) -> dict[str, float]:
    """How many images were drawn for the setting's first target, by the names MLflow gets them under."""
    found: dict[str, float] = {}
    for quality in recipe.targets[0].quality:
        drawn = quality.images.read(store)
        found = {
            "synthetic/drawn": float(drawn.drawn_per_class.sum()),
            "synthetic/passed": float(drawn.kept_per_class.sum()),
            "synthetic/pass_rate": float(drawn.kept_per_class.sum() / drawn.drawn_per_class.sum()),
            "synthetic/lowest_class_pass_rate": float(np.nanmin(drawn.pass_rates)),
        }
        if drawn.images_per_second is not None:
            found["synthetic/images_per_second"] = drawn.images_per_second
    return found


def write_synthetic(study: Study, folder: StudyFolder, recipes: Sequence[ResultRecipe], store: Store) -> list[Path]:
    """A page and a contact sheet for each set of generated images of the settings' first targets; their paths.

    What was written for a set before is left as it is.
    """
    found = {one.key: one for recipe in recipes for one in recipe.targets[0].quality}
    paths: list[Path] = []
    for key, one in found.items():
        place = folder.path / FOLDER / key[:8]
        if not (place / SHEET).exists():
            place.mkdir(parents=True, exist_ok=True)
            write_set(place, one.images, one, study.facts.class_names, study.dataset, store)
        paths += [place / PAGE, place / SHEET]
    return paths


def write_set(
    place: Path,
    images: SyntheticRecipe,
    quality: QualityRecipe | None,
    class_names: Sequence[str],
    dataset: str,
    store: Store,
) -> list[Path]:
    """One set's page, and its contact sheet where its quality was measured; their paths."""
    heading = f"Generated images: {dataset}, {len(images.generator.positions):,} records"
    page = place / PAGE
    numbers = None if quality is None else quality.open(store)
    page.write_text(synthesis_markdown(counts(images, class_names, store), numbers, heading), encoding="utf-8")
    if quality is None:
        return [page]
    # Matplotlib takes a second to load.
    from raymia.report.contact_sheet import Pairs, write_contact_sheet

    sheet = quality.sheet(store)
    pairs = Pairs(sheet.generated, sheet.training, sheet.distances, sheet.copies)
    png, _ = write_contact_sheet(place, sheet.kept, sheet.rejected, pairs, class_names, heading, subtitle(images))
    return [page, png]


def counts(images: SyntheticRecipe, class_names: Sequence[str], store: Store) -> SynthesisCounts:
    """How many images were drawn for a set, passed, and are in it."""
    found = images.read(store)
    used_K = np.bincount(found.labels(store), minlength=found.classes)
    return SynthesisCounts(
        tuple(class_names), found.drawn_per_class, found.kept_per_class, used_K, found.images_per_second
    )


def subtitle(images: SyntheticRecipe) -> str:
    """How a set was made, in a line."""
    config, synthesis = images.ground.config.diffusion, images.synthesis
    guided = synthesis.guidance_weight(config)
    kind = "conditional" if config.conditional else "unconditional"
    return (
        f"{kind} denoiser, {config.iterations:,} iterations on {len(images.generator.positions):,} records; "
        f"{config.sampler}, {images.steps} steps{f', guidance w {guided:g}' if guided else ''}; labels "
        f"{synthesis.label_rule(config)}, confidence at least {synthesis.threshold:g}"
    )
