"""One synthetic set in words, for a terminal or Markdown: what was drawn and kept, its quality, what it gives away."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.metrics.membership import Estimate
from raymia.metrics.synthetic import FRECHET_RECORDS_A_DIMENSION, Agreement, Closeness, SyntheticQuality
from raymia.metrics.synthetic_copies import CloserToTrain

# Up to so many classes each gets its own pass rate; of more, the lowest and the highest few.
FEW_CLASSES = 12
EXTREMES = 5


@dataclass(frozen=True)
class SynthesisCounts:
    """How a set came about. drawn_K, passed_K, used_K: int64[K] images of each class that were drawn, passed the filter
    and are in the set. images_per_second: None where every image was there already.
    """

    class_names: tuple[str, ...]
    drawn_K: NDArray[np.int64]
    passed_K: NDArray[np.int64]
    used_K: NDArray[np.int64]
    images_per_second: float | None


def synthesis_lines(counts: SynthesisCounts, quality: SyntheticQuality | None = None) -> list[str]:
    """The set as lines for a terminal: what was drawn, pass rates, then (where measured) quality and leakage."""
    return [_drawn_line(counts), _pass_line(counts), *([] if quality is None else quality_lines(quality))]


def quality_lines(quality: SyntheticQuality) -> list[str]:
    """The numbers of a set with their floors, in plain words."""
    balance = quality.balance
    return [
        *_accuracy_lines(quality.cas, quality.real_accuracy),
        *_agreement_lines(quality),
        *_closeness_lines(quality),
        f"Class balance: {_percent(balance.smallest)} to {_percent(balance.largest)} of the set a class, entropy "
        f"{balance.entropy:.3f} (1 is even).",
    ]


def closer_verdict(closer: CloserToTrain) -> str:
    """What the fraction closer to training data says of leakage, by its interval."""
    if closer.low > 0.5:
        return "the set leaks its training data"
    if closer.high < 0.5:
        return "nearer to held-out data: the two are no random split"
    return "no leak seen"


def copies_verdict(near: Closeness) -> str:
    """What the share of copies says beside the share that chance gives."""
    if near.copies > near.chance_copies:
        return f"{_percent(near.copies - near.chance_copies)} of the images more than chance"
    return "no more than chance"


def synthesis_markdown(counts: SynthesisCounts, quality: SyntheticQuality | None, title: str) -> str:
    """The set as a Markdown page: its counts, the table of its quality, the pass rate of each class."""
    parts = [f"# {title}", _drawn_line(counts)]
    if quality is not None:
        parts += [_table(("", "synthetic", "compare with", "in words"), _quality_rows(quality)), _note(quality)]
    shown = _shown_classes(counts)
    left_out = len(counts.class_names) - len(shown)
    parts.append("## Pass rate of each class")
    if left_out:
        parts.append(f"The {EXTREMES} lowest and {EXTREMES} highest rates; {left_out} classes between them left out.")
    rates_K = _rates(counts)
    body = [
        [
            _escape(counts.class_names[label]),
            *(f"{values_K[label]:,}" for values_K in (counts.drawn_K, counts.passed_K)),
            _percent(rates_K[label]),
            f"{counts.used_K[label]:,}",
        ]
        for label in shown
    ]
    parts.append(_table(("class", "drawn", "passed", "pass rate", "in the set"), body))
    return "\n\n".join(parts) + "\n"


def _drawn_line(counts: SynthesisCounts) -> str:
    drawn, passed, used = (int(values_K.sum()) for values_K in (counts.drawn_K, counts.passed_K, counts.used_K))
    pace = "none drawn anew" if counts.images_per_second is None else f"{counts.images_per_second:,.0f} images/s"
    rate = f" ({_percent(passed / drawn)})" if drawn else ""
    return f"Drawn {drawn:,} images, {passed:,} passed the filter{rate}, {used:,} in the set; {pace}."


def _pass_line(counts: SynthesisCounts) -> str:
    rates_K = _rates(counts)

    def written(labels: Iterable[int]) -> str:
        return ", ".join(f"{counts.class_names[label]} {_percent(rates_K[label])}" for label in labels)

    shown = _shown_classes(counts)
    if len(shown) == len(counts.class_names):
        return f"Pass rate a class: {written(shown)}."
    if not shown:
        return "Pass rate a class: no image was drawn."
    middle = _percent(float(np.nanmedian(rates_K)))
    return (
        f"Pass rate a class: median {middle} of {len(rates_K)} classes; lowest {written(shown[:EXTREMES])}; highest "
        f"{written(shown[EXTREMES:])}."
    )


def _shown_classes(counts: SynthesisCounts) -> list[int]:
    """All classes if they are few; else those of the lowest and the highest rates, lowest first, drawn ones only."""
    rates_K = _rates(counts)
    if len(rates_K) <= FEW_CLASSES:
        return list(range(len(rates_K)))
    order = [int(label) for label in np.argsort(rates_K, kind="stable") if not np.isnan(rates_K[label])]
    return order if len(order) <= 2 * EXTREMES else order[:EXTREMES] + order[-EXTREMES:]


def _rates(counts: SynthesisCounts) -> NDArray[np.float64]:
    """Of each class the share that passed; NaN where none was drawn."""
    out_K = np.full(len(counts.drawn_K), np.nan)
    return np.divide(counts.passed_K, counts.drawn_K, out=out_K, where=counts.drawn_K > 0)


def _accuracy_lines(cas: Estimate | None, real: Estimate | None) -> list[str]:
    if cas is None:
        return []
    line = f"A classifier trained on the set alone: {_with_interval(cas)} on real images"
    if real is None:
        return [line + "."]
    return [f"{line}; on as many real images {_with_interval(real)}: {_points(cas.value - real.value)}."]


def _agreement_lines(quality: SyntheticQuality) -> list[str]:
    ours, floor = quality.agreement, quality.floor
    return [
        f"In {quality.dimension} features of {quality.encoder}, {ours.n:,} images each, real against real in brackets: "
        f"kernel distance {_kernel(ours)} ({_kernel(floor)}), {_frechet_words(quality)}.",
        f"Precision {ours.precision:.2f} ({floor.precision:.2f}), recall {ours.recall:.2f} ({floor.recall:.2f}), "
        f"density {ours.density:.2f} ({floor.density:.2f}), coverage {ours.coverage:.2f} ({floor.coverage:.2f}).",
    ]


def _closeness_lines(quality: SyntheticQuality) -> list[str]:
    found = []
    for name, near in (("pixels", quality.pixels), ("features", quality.features)):
        found.append(
            f"Closer to training than to held-out data, by {name}: {_closer(near.closer)} (50% is leak-free): "
            f"{closer_verdict(near.closer)}."
        )
        found.append(
            f"Copies of a training image, by {name}: {_percent(near.copies)} (by chance {_percent(near.chance_copies)})"
            f": {copies_verdict(near)}."
        )
    return found


def _quality_rows(quality: SyntheticQuality) -> list[list[str]]:
    ours, floor = quality.agreement, quality.floor
    rows = []
    if quality.cas is not None:
        real = quality.real_accuracy
        gap = "" if real is None else _points(quality.cas.value - real.value)
        beside = "–" if real is None else _with_interval(real)
        rows.append(["accuracy on real images, trained on it alone", _with_interval(quality.cas), beside, gap])
    rows.append(["kernel distance", _kernel(ours), _kernel(floor), "0 on average for equal distributions"])
    rows.append(["Fréchet distance", _frechet(ours), _frechet(floor), _frechet_reason(quality)])
    meaning = {
        "precision": "share that looks real",
        "recall": "share of the real ones it covers",
        "density": "1 on average for equal distributions",
        "coverage": "share of the real neighborhoods it reaches",
    }
    rows += [
        [name, f"{getattr(ours, name):.3f}", f"{getattr(floor, name):.3f}", words] for name, words in meaning.items()
    ]
    for name, near in (("pixels", quality.pixels), ("features", quality.features)):
        rows.append([f"closer to training, by {name}", _closer(near.closer), "50%", closer_verdict(near.closer)])
        chance = _percent(near.chance_copies)
        rows.append([f"copies, by {name}", _percent(near.copies), chance, copies_verdict(near)])
    balance = quality.balance
    shares = f"{_percent(balance.smallest)} to {_percent(balance.largest)}"
    rows.append(["share of a class", shares, _percent(1 / len(balance.counts)), f"entropy {balance.entropy:.3f} of 1"])
    return rows


def _note(quality: SyntheticQuality) -> str:
    closer, ours = quality.pixels.closer, quality.agreement
    return (
        f"{quality.images:,} images, {quality.measured:,} of them measured. Distances, precision, recall, density and "
        f"coverage: in {quality.dimension} features of {quality.encoder}, between {ours.n:,} images and as many "
        "held-out real ones; compare with as many other held-out real ones. ± is the spread over random subsets of "
        f"{ours.kid.subset:,}. Closer to training: of {closer.references:,} training and as many held-out images, "
        "95% interval; images that share their nearest record count as one, so that the set counts as "
        f"{closer.effective:,} images by pixels and {quality.features.closer.effective:,} by features. Copies: less "
        "than half as far from their nearest training image as from their nearest ones on average; chance is the same "
        "against held-out images."
    )


def _frechet_words(quality: SyntheticQuality) -> str:
    if quality.agreement.frechet is None or quality.floor.frechet is None:
        return _frechet_reason(quality)
    return f"Fréchet distance {_frechet(quality.agreement)} ({_frechet(quality.floor)})"


def _frechet_reason(quality: SyntheticQuality) -> str:
    if quality.agreement.frechet is not None:
        return "0 for equal distributions and many images"
    needed = FRECHET_RECORDS_A_DIMENSION * quality.dimension
    return f"n too small for Fréchet (below {needed:,}): read the kernel distance"


def _frechet(one: Agreement) -> str:
    return "–" if one.frechet is None else f"{one.frechet:.4g}"


def _kernel(one: Agreement) -> str:
    return f"{one.kid.mean:.4f} ± {one.kid.std:.4f}"


def _closer(closer: CloserToTrain) -> str:
    return f"{100 * closer.fraction:.0f}% [{100 * closer.low:.0f}, {100 * closer.high:.0f}]"


def _with_interval(one: Estimate) -> str:
    return f"{_percent(one.value)} [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def _percent(fraction: float) -> str:
    """`70.4%`, `–` for what is not a number."""
    return "–" if np.isnan(fraction) else f"{100 * float(fraction):.1f}%"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
