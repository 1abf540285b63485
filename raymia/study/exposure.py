"""The most exposed records of a finished study: who they are, under which defenses, and how they look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raymia.files import write_whole
from raymia.metrics.exposed import Exposed, exposed_records
from raymia.metrics.results import UNDEFENDED
from raymia.metrics.table import write_csv
from raymia.records import Records
from raymia.report.rows import words
from raymia.store import Store
from raymia.study.finished import FinishedStudy
from raymia.study.publish import scored_by
from raymia.study.scored import read_scored


@dataclass(frozen=True)
class ExposedStudy:
    """found: the records by settings. attacks: the one that each setting's scores are by, in the settings' order.

    asked: the one attack asked for; None where each setting has its own worst.
    """

    study: FinishedStudy
    records: Records
    found: Exposed
    attacks: tuple[str, ...]
    asked: str | None

    @property
    def first(self) -> str:
        """The setting that the records are ordered by: undefended, else the first."""
        return UNDEFENDED if UNDEFENDED in self.found.settings else self.found.settings[0]


def find_exposed(folder: Path, store: Store, attack: str | None) -> ExposedStudy:
    """Read a finished study's scores.

    attack: whose; None takes each setting's own worst on all members. Raises InputError where the study, its scores or
    the attack are not there.
    """
    found = read_scored(folder, attack)
    with found.still_there():
        scored = {name: [scored_by(one, store) for one in found.scores(name)] for name in found.results}
    return ExposedStudy(found.study, found.records, exposed_records(scored), tuple(found.attacks.values()), attack)


def write_exposed(exposed: ExposedStudy, folder: Path, top: int) -> list[Path]:
    """Write `exposed_records.csv`, all of them, and `exposed_records.png`, the first ones of images; their paths."""
    csv = folder / "exposed_records.csv"
    write_csv(_rows(exposed), csv)
    if not exposed.records.is_image:
        return [csv]
    # Matplotlib takes a second to load.
    from raymia.report.exposed import exposed_figure
    from raymia.report.style import png_bytes

    order = exposed.found.order(exposed.first)[:top]
    images = exposed.records.images[exposed.found.positions[order]]
    title = f"The records most exposed without a defense: {exposed.study.title}"
    figure = exposed_figure(images, [_caption(exposed, int(row)) for row in order], title, _explained(exposed))
    png = folder / "exposed_records.png"
    write_whole({png: png_bytes(figure)})
    return [csv, png]


def _rows(exposed: ExposedStudy) -> list[dict[str, object]]:
    found, records = exposed.found, exposed.records
    rows: list[dict[str, object]] = []
    for row in found.order(exposed.first):
        position = found.positions[row]
        cells: dict[str, object] = {
            "id": int(records.ids[position]),
            "label": records.class_names[records.labels[position]],
            "targets": int(found.targets_RS[row].max()),
        }
        for column, (setting, attack) in enumerate(zip(found.settings, exposed.attacks, strict=True)):
            rate = found.caught_at_RS[row, column]
            cells[f"{setting} ({attack})"] = None if np.isnan(rate) else float(rate)
        rows.append(cells)
    return rows


def _caption(exposed: ExposedStudy, row: int) -> list[str]:
    found, records = exposed.found, exposed.records
    position = found.positions[row]
    lines = [f"{records.class_names[records.labels[position]]}, id {records.ids[position]}"]
    rates = found.caught_at_RS[row]
    lines.append(f"{exposed.first}: {_percent(rates[found.settings.index(exposed.first)])}")
    defended = [number for number, name in enumerate(found.settings) if name != exposed.first]
    known = [number for number in defended if not np.isnan(rates[number])]
    if known:
        lines.append(f"defended: {_percent(rates[known].min())} to {_percent(rates[known].max())}")
    return lines


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g}%"


def _explained(exposed: ExposedStudy) -> str:
    targets = exposed.study.config.plan.targets
    attack = words(exposed.asked) if exposed.asked else "the worst attack of each setting on all members"
    return (
        "Percent: the share of non-members that an attacker accuses with the record at the threshold that just catches "
        f"it; the smaller, the more exposed. Geometric mean over those of {targets} targets that trained on it, by "
        f"{attack}. Defended: the least and the largest over the other settings."
    )
