"""The denoiser's network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raymia.config import DiffusionConfig
from raymia.diffusion.denoiser import Denoiser, as_images, as_signal, build_denoiser, computing
from raymia.errors import InputError

CPU = torch.device("cpu")
CLASSES = 3
DIGITS = (1, 8, 8)


def built(shape: tuple[int, int, int] = DIGITS, seed: int = 0, **changes: Any) -> Denoiser:
    values: dict[str, Any] = {"channels": (4, 8), "attention": (), "dropout": 0.0}
    torch.manual_seed(seed)
    return build_denoiser(DiffusionConfig(**(values | changes)), shape, CLASSES)


def inputs(shape: tuple[int, int, int] = DIGITS) -> tuple[Tensor, Tensor, Tensor]:
    """Two noisy images, their timesteps and labels."""
    return (
        torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)),
        torch.tensor([3, 900]),
        torch.tensor([0, 2]),
    )


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize(
    ("shape", "channels", "attention"),
    [
        (DIGITS, (32, 64), (1,)),
        ((3, 32, 32), (4, 8, 8), (1, 2)),
        ((3, 12, 20), (10, 15, 5), (0,)),
        (DIGITS, (6,), (0,)),
    ],
)
def test_the_prediction_has_the_images_shape(
    shape: tuple[int, int, int], channels: tuple[int, ...], attention: tuple[int, ...], conditional: bool
) -> None:
    denoiser = built(shape, channels=channels, attention=attention, conditional=conditional)
    noise = denoiser(*inputs(shape)).detach()
    assert noise.shape == (2, *shape)
    assert noise.dtype == torch.float32
    assert bool(noise.isfinite().all())
    assert float(noise.std()) > 0


@pytest.mark.parametrize(
    ("channels", "groups"),
    [((32, 64), 8), ((128, 256), 32), ((256, 512), 32), ((48, 96), 12), ((12, 20), 2), ((10, 15), 1), ((4, 8), 1)],
)
def test_groups_divide_every_channel_count(channels: tuple[int, ...], groups: int) -> None:
    norms = [module for module in built(channels=channels).modules() if isinstance(module, nn.GroupNorm)]
    assert norms
    assert {norm.num_groups for norm in norms} == {groups}


def attentions(module: nn.Module) -> int:
    return sum(type(part).__name__ == "Attention" for part in module.modules())


@pytest.mark.parametrize("attention", [(), (0,), (1,), (0, 1)])
def test_attention_is_where_it_was_asked_for(attention: tuple[int, ...]) -> None:
    net = built(attention=attention, blocks=1).net
    down, up = net.get_submodule("down_blocks"), net.get_submodule("up_blocks")
    assert [bool(attentions(block)) for block in down.children()] == [level in attention for level in (0, 1)]
    assert [bool(attentions(block)) for block in up.children()] == [level in attention for level in (1, 0)]
    assert bool(attentions(net.get_submodule("mid_block"))) == bool(attention)


def test_blocks_are_as_many_as_asked() -> None:
    sizes = [sum(values.numel() for values in built(blocks=blocks).parameters()) for blocks in (1, 2, 3)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0


def test_timesteps_and_labels_matter_and_the_null_label_is_one() -> None:
    denoiser = built().eval()
    noisy, timesteps, labels = inputs()
    answers = [
        denoiser(noisy, timesteps, labels),
        denoiser(noisy, timesteps + 1, labels),
        denoiser(noisy, timesteps, (labels + 1) % CLASSES),
        denoiser(noisy, timesteps, torch.full_like(labels, denoiser.null_label)),
    ]
    assert denoiser.null_label == CLASSES
    for index, one in enumerate(answers):
        assert not any(torch.equal(one, other) for other in answers[index + 1 :])


@pytest.mark.parametrize("channels", [(4,), (8,), (32,)])
def test_timesteps_and_labels_survive_the_norms(channels: tuple[int, ...]) -> None:
    """A group of one channel would normalize away what they add."""
    denoiser = built(channels=channels).eval()
    noisy, timesteps, labels = inputs()
    answer = denoiser(noisy, timesteps, labels)
    assert not torch.allclose(answer, denoiser(noisy, timesteps + 50, labels), atol=1e-3)
    assert not torch.allclose(answer, denoiser(noisy, timesteps, (labels + 1) % CLASSES), atol=1e-3)


def test_an_unconditional_denoiser_looks_at_no_label() -> None:
    denoiser = built(conditional=False).eval()
    noisy, timesteps, labels = inputs()
    assert torch.equal(denoiser(noisy, timesteps, labels), denoiser(noisy, timesteps, labels - 100))


def test_a_denoiser_comes_from_torchs_random_state_alone() -> None:
    one, again, other = (built(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_dropout_works_in_training_only() -> None:
    denoiser = built(dropout=0.5)
    first, second = (denoiser.train()(*inputs()) for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (denoiser.eval()(*inputs()) for _ in range(2))
    assert torch.equal(first, second)


def test_bf16_changes_the_arithmetic_and_not_the_type() -> None:
    denoiser = built().eval()
    with computing("fp32", CPU):
        exact = denoiser(*inputs())
    with computing("bf16", CPU):
        coarse = denoiser(*inputs())
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("shape", "levels", "most"), [(DIGITS, 5, 4), ((1, 28, 28), 4, 3), ((3, 32, 20), 4, 3), ((3, 15, 32), 2, 1)]
)
def test_sides_that_cannot_be_halved_so_often_are_refused(shape: tuple[int, int, int], levels: int, most: int) -> None:
    with pytest.raises(InputError) as raised:
        built(shape, channels=(4,) * levels)
    message = str(raised.value)
    assert message.startswith(f"diffusion.channels has {levels} resolutions")
    assert f"{shape[1]}×{shape[2]}" in message
    assert message.endswith(f"at most {most}")
    assert "\n" not in message
    built(shape, channels=(4,) * most)(*inputs(shape))


def test_a_channel_that_cannot_hold_a_timestep_is_refused() -> None:
    with pytest.raises(InputError, match=r"^diffusion\.channels must begin with 2 or more"):
        built(channels=(1, 4))


def test_all_pixel_values_survive_the_way_there_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    signal = as_signal(pixels)
    assert signal.dtype == torch.float32
    assert (float(signal.min()), float(signal.max())) == (-1.0, 1.0)
    assert torch.equal(as_images(signal), pixels)


def test_pixels_are_rounded_and_clipped() -> None:
    values = torch.tensor([-7.0, -1.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.0, 3.0])
    assert as_images(values).tolist() == [0, 0, 0, 1, 255, 255]
