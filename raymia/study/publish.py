"""What a study leaves behind: the table, the figures, the record, and its runs in MLflow."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raymia.attacks import LEAST_IN
from raymia.config import RobustnessConfig
from raymia.defenses.dp_sgd import spent_epsilon
from raymia.keys import content_key
from raymia.metrics.comparison import Scored, paired_on_records
from raymia.metrics.results import SettingResult
from raymia.metrics.roc import roc_curve
from raymia.metrics.summary import Row, rows
from raymia.metrics.table import write_csv
from raymia.privacy import Guarantee, default_delta
from raymia.recipes.recipe import walk
from raymia.recipes.result import Measured, ResultRecipe
from raymia.recipes.scores import ScoresRecipe
from raymia.recipes.signals import unpack_arrays
from raymia.records.plan import Role
from raymia.seeds import generator
from raymia.space import Setting
from raymia.store import Store
from raymia.study.folder import StudyFolder
from raymia.study.publish_synthetic import drawing_metrics, quality_metrics, write_synthetic
from raymia.study.study import Study
from raymia.tracking_records import StudyRecord, TrialRecord


@dataclass(frozen=True)
class MeasuredSetting:
    """A setting with what was measured of it."""

    setting: Setting
    recipe: ResultRecipe
    measured: Measured

    @property
    def result(self) -> SettingResult:
        """As the metrics' tables take it."""
        return SettingResult(
            setting=self.setting.label,
            defense=self.setting.name,
            hyperparameters=self.setting.hyperparameters,
            seeds=self.measured.seeds,
            pooled=dict(self.measured.pooled),
            guarantee=self._guarantee,
        )

    @property
    def _guarantee(self) -> Guarantee | None:
        """The weakest of its targets', whose members differ in number where canaries are drawn by coins."""
        models = [target.signals.model for target in self.recipe.targets]
        training, counts = models[0].ground.config.training, {len(model.positions) for model in models}
        delta = default_delta(max(counts))
        found = (
            spent_epsilon(models[0].defense, count, training.batch_size, training.epochs, delta) for count in counts
        )
        return max((one for one in found if one is not None), key=lambda one: one.epsilon, default=None)


def read_measured(settings: Iterable[tuple[Setting, ResultRecipe]], store: Store) -> list[MeasuredSetting]:
    """The measurements of settings that are done."""
    return [MeasuredSetting(setting, recipe, recipe.open(store)) for setting, recipe in settings]


def table(study: Study, measured: Sequence[MeasuredSetting], store: Store) -> list[Row]:
    """The rows of `frontier.csv`. With one target a setting, differences to undefended are paired over its records."""
    results = [one.result for one in measured]
    base = next((one for one in measured if one.result.undefended), None)
    if study.config.plan.targets == 1 and base is not None:
        theirs = _scored(base, store)
        results = [
            one.result
            if one is base
            else replace(one.result, paired=paired_on_records(one.result, base.result, _scored(one, store), theirs))
            for one in measured
        ]
    return rows(results, generator(study.config.seed, "frontier"))


def left_out_lines(left_out: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Which attacks were not run on which settings, and why. left_out: measures by setting."""
    settings: dict[tuple[str, ...], list[str]] = {}
    for setting, measures in left_out.items():
        settings.setdefault(measures, []).append(setting)
    return [
        f"Not run, since some record has fewer than {LEAST_IN} references that trained on it: {', '.join(measures)} "
        f"({', '.join(names)}). Offline attacks stand for them; a larger plan.references may bring them."
        for measures, names in settings.items()
    ]


def robustness_lines(study: Study, measured: Sequence[MeasuredSetting]) -> list[str]:
    """What the robust accuracies are against, and what AutoAttack itself warns of, by setting."""
    config = study.config.robustness
    if not config.evaluations:
        return []
    lines = [
        f"Robust accuracy: against {_ball(config)} of pixels in [0, 1]; PGD by 20 steps of {config.step_size:.4g}."
    ]
    settings: dict[str, list[str]] = {}
    for one in measured:
        for found in one.result.robustness.values():
            for warning in found.warnings:
                settings.setdefault(warning, []).append(one.setting.label)
    return lines + [f"AutoAttack warns ({', '.join(names)}): {warning}" for warning, names in settings.items()]


def _ball(config: RobustnessConfig) -> str:
    return f"{'ℓ∞' if config.norm == 'linf' else 'ℓ2'} ε {config.epsilon:.4g}"


def _scored(one: MeasuredSetting, store: Store) -> dict[str, Scored]:
    """Each record's score by every attack on the setting's one target."""
    found = {}
    for recipe in one.recipe.targets[0].scores:
        if isinstance(recipe, ScoresRecipe):
            found[recipe.measure] = scored_by(recipe, store)
    return found


def scored_by(recipe: ScoresRecipe, store: Store) -> Scored:
    """Each record's score by one attack on one target."""
    arrays = unpack_arrays(store.read(recipe.artifacts[0])[0])
    return Scored(arrays["positions"], arrays["scores"], arrays["member"])


def write_report(
    study: Study, folder: StudyFolder, measured: Sequence[MeasuredSetting], found: Sequence[Row], store: Store
) -> list[Path]:
    """Write the table, the figure, the generalization gaps and a page on each set of generated images; their paths."""
    # Matplotlib takes a second to load, and only finished studies draw.
    from raymia.report.figure import write_frontier
    from raymia.report.gap import generalization_gap_markdown
    from raymia.report.robust_figure import write_robust_frontier

    csv = folder.path / "frontier.csv"
    write_csv(found, csv)
    synthetic = write_synthetic(study, folder, [one.recipe for one in measured], store)
    figures = write_frontier(found, folder.path, title(study), subtitle(study))
    robust = write_robust_frontier(found, folder.path, title(study), subtitle(study)) or ()
    gap = folder.write_text(
        "generalization_gap.md", generalization_gap_markdown(found, f"Generalization gap: {title(study)}")
    )
    return [csv, *figures, *robust, gap, *synthetic]


def title(study: Study) -> str:
    """What was measured, in a line: the scale stands in it."""
    size = len(study.blueprint.plan(0)[Role.TARGET_IN])
    return f"{study.space.name} on {study.dataset}, {len(_parts(study))} × {size:,} records"


def subtitle(study: Study) -> str:
    """How it was measured, in a line."""
    config = study.config
    options = "".join(f", {name} {value}" for name, value in config.model.options.items())
    targets, references, canaries = config.plan.targets, config.plan.references, config.plan.canaries
    attackers = f"a shadow and {references} references" if references else "a shadow"
    planted = f"{canaries} {config.plan.canary_kind} canaries, " if canaries else ""
    against = f", robust to {_ball(config.robustness)}" if config.robustness.evaluations else ""
    return (
        f"{config.model.name}{options}, {config.training.epochs} epochs, {config.training.precision}; "
        f"{targets} target{'s' * (targets > 1)} with {attackers} each, {planted}seed {config.seed}{against}"
    )


def _parts(study: Study) -> list[Role]:
    roles = study.blueprint.plan(0).roles
    return [role for role, positions in roles.items() if len(positions) and role is not Role.CANARY]


def study_record(study: Study, name: str, more: Mapping[str, str]) -> StudyRecord:
    """The study as MLflow's parent run, with more tags."""
    params = {
        "space": study.space.name,
        "dataset": study.config.data.dataset,
        "model": study.config.model.name,
        "seed": study.config.seed,
        "attacks": ", ".join(study.config.attacks),
        **{f"training.{name}": value for name, value in study.config.training.model_dump(mode="json").items()},
        **{f"plan.{name}": value for name, value in study.config.plan.model_dump(mode="json").items()},
    }
    if any(recipe.kind == "generators" for recipe in walk(study.recipes)):
        generating = study.config.diffusion.model_dump(mode="json")
        params |= {f"diffusion.{name}": value for name, value in generating.items()}
    if study.config.robustness.evaluations:
        against = study.config.robustness.model_dump(mode="json")
        params |= {f"robustness.{name}": value for name, value in against.items()}
    tags = {"raymia.data": study.facts.fingerprint, **more}
    return StudyRecord(study.key, name, params, tags, study.config.to_yaml())


def failed_record(setting: Setting, recipe: ResultRecipe, reason: str) -> TrialRecord:
    """A setting that could not be measured, as one of MLflow's child runs."""
    params = {"defense": setting.name, **setting.hyperparameters}
    return TrialRecord(_trial_key(setting, recipe), setting.label, params, status="failed", error=reason)


def _trial_key(setting: Setting, recipe: ResultRecipe) -> str:
    # Two settings may come to the same recipe (early stops that round to one epoch), yet are two trials.
    return content_key("trial", [recipe.key, setting.name, setting.hyperparameters])


def trial_record(
    study: Study, one: MeasuredSetting, folder: StudyFolder, store: Store, started: float | None = None
) -> TrialRecord:
    """A measured setting as one of MLflow's child runs, with its ROC figure and a contact sheet of the images it was
    trained on, if they are generated. started: Unix seconds, if it ran now.
    """
    pages = write_synthetic(study, folder, [one.recipe], store)
    pictures = {path.stem: path for path in pages if path.suffix == ".png"}
    metrics: dict[str, float] = {"device_seconds": device_seconds([one.recipe], store)}
    metrics |= quality_metrics(one.measured.quality) | drawing_metrics(one.recipe, store)
    utility = one.result.utility
    for name in ("train_accuracy", "test_accuracy", "generalization_gap", "ece"):
        metrics[name] = getattr(utility, name)
    for name, found in one.result.robustness.items():
        metrics[f"robust_accuracy_{name}"] = found.accuracy
    guarantee = one.result.guarantee
    if guarantee is not None and math.isfinite(guarantee.epsilon):
        metrics |= {"epsilon": guarantee.epsilon, "delta": guarantee.delta}
    for attack, pooled in one.measured.pooled.items():
        metrics[f"attack/{attack}/auc"] = pooled.auc
        if pooled.epsilon_lower is not None:
            metrics[f"attack/{attack}/epsilon_lower"] = pooled.epsilon_lower
        metrics[f"attack/{attack}/auc_low"] = pooled.auc_low
        metrics[f"attack/{attack}/auc_high"] = pooled.auc_high
        metrics[f"attack/{attack}/balanced_accuracy"] = pooled.balanced_accuracy.value
        for point in pooled.tpr:
            if point.tpr is not None:
                metrics[f"attack/{attack}/tpr_at_fpr_{point.target_fpr:g}"] = point.tpr
    return TrialRecord(
        key=_trial_key(one.setting, one.recipe),
        name=one.setting.label,
        params={"defense": one.setting.name, **one.setting.hyperparameters},
        metrics=metrics,
        curves={"train_loss": list(enumerate(one.measured.train_loss, start=1))},
        figures={"roc": _roc(one, folder, store), **pictures},
        started_at=started,
    )


def _roc(one: MeasuredSetting, folder: StudyFolder, store: Store) -> Path:
    from raymia.report.roc_figure import roc_figure
    from raymia.report.style import png_bytes

    curves: dict[str, list[tuple[Any, Any]]] = {}
    nonmembers = 0
    for target in one.recipe.targets:
        for scores in target.scores:
            values, member = scores.scores(store)
            nonmembers = int((~member).sum())
            roc = roc_curve(values, member)
            curves.setdefault(scores.measure, []).append((roc.fpr, roc.tpr))
    path = folder.path / "roc" / f"{one.recipe.key}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png_bytes(roc_figure(curves, one.setting.label, nonmembers=nonmembers)))
    return path


def device_seconds(recipes: Sequence[ResultRecipe], store: Store) -> float:
    """Seconds of workers that went into making all artifacts behind these results, now or in earlier runs."""
    names = {name for recipe in walk(list(recipes)) for name in recipe.artifacts[-1:]}
    # In a fixed order: a sum of floats depends on it.
    return sum(float(store.meta(name).get("seconds", 0.0)) for name in sorted(names))
