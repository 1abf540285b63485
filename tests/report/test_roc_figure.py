"""The ROC figure shows each seed's curve, and what cannot be resolved."""

import numpy as np
import pytest
from matplotlib.legend import Legend

from raymia.report.roc_figure import roc_figure
from raymia.report.style import svg_bytes

CURVE = (np.array([0.0, 0.01, 0.1, 1.0]), np.array([0.0, 0.05, 0.3, 1.0]))
OTHER = (np.array([0.0, 0.02, 1.0]), np.array([0.0, 0.02, 1.0]))


def lines(figure):
    return {line.get_gid(): line for line in figure.axes[0].get_lines()}


def test_a_line_for_each_attack_and_seed_with_the_curve_given() -> None:
    found = lines(roc_figure({"loss": [CURVE, OTHER], "nn": [OTHER]}, "title", nonmembers=1000))
    assert set(found) == {"chance", "loss/0", "loss/1", "nn/0"}
    assert list(found["loss/0"].get_xdata()) == list(CURVE[0])
    assert list(found["loss/0"].get_ydata()) == list(CURVE[1])
    assert found["loss/0"].get_color() == found["loss/1"].get_color() != found["nn/0"].get_color()
    assert list(found["chance"].get_xdata()) == list(found["chance"].get_ydata())


def test_populations_of_an_attack_have_its_color_and_a_line_style_of_their_own() -> None:
    names = ("loss/direct", "denoising_loss/generator", "nn", "loss", "loss/indirect")
    figure = roc_figure({name: [CURVE, OTHER] for name in names}, "title", nonmembers=1000)
    found = lines(figure)
    of_loss = [found[f"{name}/1"] for name in ("loss", "loss/direct", "loss/indirect")]
    assert len({line.get_color() for line in of_loss}) == 1
    assert len({str(line._dash_pattern) for line in of_loss}) == 3
    assert len({found[f"{name}/0"].get_color() for name in ("loss", "nn", "denoising_loss/generator")}) == 3
    (legend,) = figure.findobj(Legend)
    assert [text.get_text() for text in legend.get_texts()] == [
        *("loss", "loss, direct", "loss, indirect", "nn", "denoising loss, generator", "chance")
    ]


def test_what_fewer_than_ten_nonmembers_decide_is_shaded() -> None:
    figure = roc_figure({"loss": [CURVE]}, "title", nonmembers=2000)
    axes = figure.axes[0]
    (shade,) = figure.findobj(lambda each: each.get_gid() == "not_resolvable")
    box = shade.get_extents().transformed(axes.transData.inverted())
    assert box.x1 == pytest.approx(10 / 2000)
    assert box.x0 == pytest.approx(axes.get_xlim()[0])
    assert axes.get_xlim()[0] < 1 / 2000
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "not resolvable" in svg_bytes(figure).decode()


def test_equal_curves_give_equal_bytes() -> None:
    one, two = (svg_bytes(roc_figure({"loss": [CURVE]}, "title", nonmembers=50)) for _ in range(2))
    assert one == two


def test_no_nonmembers_is_refused() -> None:
    with pytest.raises(ValueError, match="non-member"):
        roc_figure({"loss": [CURVE]}, "title", nonmembers=0)
