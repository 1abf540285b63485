"""The words for a synthetic set say what its numbers say."""

from dataclasses import replace

import numpy as np
import pytest

from raymia.metrics.membership import Estimate
from raymia.metrics.synthetic import Agreement, ClassBalance, Closeness, SyntheticQuality
from raymia.metrics.synthetic_copies import CloserToTrain
from raymia.metrics.synthetic_distance import Kid
from raymia.report.synthesis import (
    SynthesisCounts,
    closer_verdict,
    quality_lines,
    synthesis_lines,
    synthesis_markdown,
)


def counts(drawn: list[int], passed: list[int], pace: float | None = 812.4) -> SynthesisCounts:
    names = tuple(f"class {number}" for number in range(len(drawn)))
    return SynthesisCounts(names, np.array(drawn), np.array(passed), np.minimum(passed, 100), pace)


def closeness(fraction: float, low: float, high: float, copies: float, chance: float) -> Closeness:
    return Closeness(CloserToTrain(fraction, low, high, 900, 250, 450), copies, chance)


QUALITY = SyntheticQuality(
    images=1000,
    measured=900,
    encoder="a cnn trained on held-out digits",
    dimension=64,
    cas=Estimate(0.85, 0.82, 0.88),
    real_accuracy=Estimate(0.97, 0.95, 0.98),
    agreement=Agreement(225, None, Kid(0.03, 0.07, 112, 50), 0.84, 0.9, 0.88, 0.93),
    floor=Agreement(225, None, Kid(-0.01, 0.06, 112, 50), 0.89, 0.91, 0.96, 0.95),
    pixels=closeness(0.70, 0.64, 0.76, 0.15, 0.109),
    features=closeness(0.52, 0.45, 0.58, 0.4, 0.42),
    balance=ClassBalance((60, 40), 0.4, 0.6, 0.971),
)


def test_drawn_kept_and_pace() -> None:
    first, second = synthesis_lines(counts([1000, 4000], [900, 100]))
    assert first == "Drawn 5,000 images, 1,000 passed the filter (20.0%), 200 in the set; 812 images/s."
    assert second == "Pass rate a class: class 0 90.0%, class 1 2.5%."
    assert "none drawn anew" in synthesis_lines(counts([10], [9], pace=None))[0]


def test_a_class_without_a_drawn_image_has_no_rate() -> None:
    assert synthesis_lines(counts([10, 0], [5, 0]))[1] == "Pass rate a class: class 0 50.0%, class 1 –."
    nothing = synthesis_lines(counts([0] * 20, [0] * 20))
    assert nothing == [
        "Drawn 0 images, 0 passed the filter, 0 in the set; 812 images/s.",
        "Pass rate a class: no image was drawn.",
    ]


def test_of_many_classes_the_lowest_and_highest_are_named() -> None:
    line = synthesis_lines(counts([1000] * 100, [10 * (99 - number) for number in range(100)]))[1]
    assert line == (
        "Pass rate a class: median 49.5% of 100 classes; "
        "lowest class 99 0.0%, class 98 1.0%, class 97 2.0%, class 96 3.0%, class 95 4.0%; "
        "highest class 4 95.0%, class 3 96.0%, class 2 97.0%, class 1 98.0%, class 0 99.0%."
    )


def test_the_lines_of_a_quality() -> None:
    assert quality_lines(QUALITY) == [
        "A classifier trained on the set alone: 85.0% [82.0, 88.0] on real images; on as many real images "
        "97.0% [95.0, 98.0]: -12.0 points.",
        "In 64 features of a cnn trained on held-out digits, 225 images each, real against real in brackets: kernel "
        "distance 0.0300 ± 0.0700 (-0.0100 ± 0.0600), n too small for Fréchet (below 640): read the kernel distance.",
        "Precision 0.84 (0.89), recall 0.90 (0.91), density 0.88 (0.96), coverage 0.93 (0.95).",
        "Closer to training than to held-out data, by pixels: 70% [64, 76] (50% is leak-free): the set leaks its "
        "training data.",
        "Copies of a training image, by pixels: 15.0% (by chance 10.9%): 4.1% of the images more than chance.",
        "Closer to training than to held-out data, by features: 52% [45, 58] (50% is leak-free): no leak seen.",
        "Copies of a training image, by features: 40.0% (by chance 42.0%): no more than chance.",
        "Class balance: 40.0% to 60.0% of the set a class, entropy 0.971 (1 is even).",
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.501, 0.6, "the set leaks its training data"),
        (0.5, 0.6, "no leak seen"),
        (0.4, 0.5, "no leak seen"),
        (0.4, 0.499, "nearer to held-out data: the two are no random split"),
    ],
)
def test_the_verdict_follows_the_interval(low: float, high: float, expected: str) -> None:
    assert closer_verdict(CloserToTrain((low + high) / 2, low, high, 10, 10, 5)) == expected


def test_frechet_stands_where_n_is_enough() -> None:
    enough = replace(
        QUALITY, agreement=replace(QUALITY.agreement, frechet=3.25), floor=replace(QUALITY.floor, frechet=0.5)
    )
    assert "Fréchet distance 3.25 (0.5)." in quality_lines(enough)[1]
    assert "| Fréchet distance | 3.25 | 0.5 |" in synthesis_markdown(counts([1], [1]), enough, "Set")
    assert "| Fréchet distance | – | – | n too small" in synthesis_markdown(counts([1], [1]), QUALITY, "Set")


def test_what_was_not_trained_is_not_said() -> None:
    assert not any("trained on the set alone" in line for line in quality_lines(replace(QUALITY, cas=None)))
    alone = quality_lines(replace(QUALITY, real_accuracy=None))[0]
    assert alone == "A classifier trained on the set alone: 85.0% [82.0, 88.0] on real images."


def test_markdown_holds_every_number_and_every_class() -> None:
    text = synthesis_markdown(counts([1000, 4000], [900, 100]), QUALITY, "Generated digits")
    assert text.startswith("# Generated digits\n")
    assert "| closer to training, by pixels | 70% [64, 76] | 50% | the set leaks its training data |" in text
    assert "| copies, by features | 40.0% | 42.0% | no more than chance |" in text
    assert "| precision | 0.840 | 0.890 |" in text
    assert "| class 1 | 4,000 | 100 | 2.5% | 100 |" in text
    assert "FID" not in text
    assert "the set counts as 250 images by pixels" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert [len({line.count("|") for line in table.splitlines()}) for table in tables] == [1, 1]


def test_markdown_of_many_classes_is_short_and_says_so() -> None:
    text = synthesis_markdown(counts([1000] * 100, list(range(100))), None, "Set")
    assert text.count("\n| class ") == 1 + 10
    assert "90 classes between them left out" in text
    assert "compare with" not in text


def test_a_pipe_in_a_class_name_does_not_break_the_table() -> None:
    one = replace(counts([10], [5]), class_names=("a|b",))
    assert "| a\\|b | 10 |" in synthesis_markdown(one, None, "Set")
