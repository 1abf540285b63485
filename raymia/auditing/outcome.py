"""What an audit leaves: its record as JSON, the scores of every record, the ROC curves."""

import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import raymia
from raymia.auditing.conditions import Judgment
from raymia.auditing.evidence import Evidence
from raymia.auditing.numbers import numbers_of
from raymia.auditing.run import AttackResult
from raymia.metrics.delong import widen_auc_interval
from raymia.metrics.frontier import worst_attack
from raymia.metrics.intervals import ALPHA, Interval
from raymia.metrics.roc import roc_curve
from raymia.report.roc_figure import roc_figure
from raymia.report.style import png_bytes, svg_bytes
from raymia.versions import VERSIONS

_PACKAGES = ("torch", "numpy", "scipy")
_CURVES = 8


@dataclass(frozen=True)
class Outcome:
    """results: of the attacks that were run, at least one. left_out: why others were not, by name."""

    evidence: Evidence
    results: Sequence[AttackResult]
    left_out: Mapping[str, str]
    judgments: Sequence[Judgment]
    seed: int

    @property
    def strongest(self) -> AttackResult:
        """The attack with the largest AUC."""
        return max(self.results, key=lambda one: one.metrics.auc)

    @property
    def attack_notes(self) -> list[tuple[str, list[str]]]:
        """Each note that goes with attacks, and their names."""
        notes = dict.fromkeys(note for one in self.results for note in one.notes)
        return [(note, [one.name for one in self.results if note in one.notes]) for note in notes]

    @property
    def strongest_interval(self) -> Interval:
        """Of the largest true AUC: it holds for all attacks at once, since the strongest was picked among them."""
        level = ALPHA / len(self.results)
        found = {one.name: one.metrics for one in self.results}
        of_records = {
            name: widen_auc_interval(one.auc, Interval(one.auc_low, one.auc_high), level) for name, one in found.items()
        }
        interval = worst_attack({name: [one.auc] for name, one in found.items()}, ALPHA, of_records).interval
        assert interval is not None  # each attack has one
        return interval


def as_json(outcome: Outcome) -> bytes:
    """The whole record; equal audits give equal bytes."""
    evidence, strongest, interval = outcome.evidence, outcome.strongest, outcome.strongest_interval
    members = int(evidence.member_N.sum())
    content = {
        "versions": {"raymia": raymia.__version__, "python": platform.python_version()}
        | {name: version(name) for name in _PACKAGES}
        | {stage: VERSIONS[stage] for stage in ("attacks", "metrics")},
        "seed": outcome.seed,
        "records": len(evidence.member_N),
        "members": members,
        "nonmembers": len(evidence.member_N) - members,
        "given": dict(evidence.given),
        "digests": dict(evidence.digests),
        "notes": list(evidence.notes),
        "largest_auc": {
            "attack": strongest.name,
            "auc": strongest.metrics.auc,
            "auc_low": interval.low,
            "auc_high": interval.high,
            "interval": f"holds for all {len(outcome.results)} attacks at once",
        },
        "attacks": {one.name: _attack(one) for one in outcome.results},
        "not_run": dict(outcome.left_out),
        "conditions": [
            {"condition": one.condition.text, "fails": one.fails, "met_by": dict(one.met), "outcome": one.line}
            for one in outcome.judgments
        ],
    }
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _attack(result: AttackResult) -> dict[str, Any]:
    metrics = result.metrics
    return {
        "knowledge": result.attack.knowledge,
        "interval_kind": metrics.interval_kind,
        **numbers_of(metrics),
        "ppv_at_fpr": metrics.ppv_fpr,
        "notes": list(result.notes),
    }


def as_parquet(outcome: Outcome) -> bytes:
    """One row a record: `id`, `member`, and a score column named as each attack, float64, larger = more likely a
    member.
    """
    evidence = outcome.evidence
    columns = {"id": pa.array(evidence.ids_N), "member": pa.array(evidence.member_N)}
    columns |= {one.name: pa.array(one.scores_N) for one in outcome.results}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def as_figure(outcome: Outcome, *, svg: bool) -> bytes:
    """The ROC curves on log axes as PNG or SVG; of many attacks those with the most members at a low FPR."""
    member_N = outcome.evidence.member_N
    shown = sorted(outcome.results, key=_reach, reverse=True)[:_CURVES]
    curves = {}
    for one in shown:
        roc = roc_curve(one.scores_N, member_N)
        curves[one.name] = [(roc.fpr, roc.tpr)]
    title = "Membership audit"
    if len(shown) < len(outcome.results):
        title += f", {len(shown)} of {len(outcome.results)} attacks"
    figure = roc_figure(curves, title, nonmembers=int((~member_N).sum()))
    return svg_bytes(figure) if svg else png_bytes(figure)


def _reach(result: AttackResult) -> tuple[float, float]:
    """TPR at the lowest FPR that can be resolved, then AUC."""
    found = [point.tpr for point in result.metrics.tpr if point.tpr is not None]
    return found[-1] if found else 0.0, result.metrics.auc
