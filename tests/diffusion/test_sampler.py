"""The samplers, against distributions and formulas that are known."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.config import DiffusionConfig
from raymia.diffusion import sampler as module
from raymia.diffusion.denoiser import Denoiser, as_images, build_denoiser
from raymia.diffusion.noise import NoiseSchedule, NoiseStreams
from raymia.diffusion.sampler import Sampler
from raymia.errors import InputError

CPU = torch.device("cpu")
SAMPLERS = ["ancestral", "ddim", "dpm_solver++"]
SHAPE = (2, 4, 3)
CLASSES = 3
MEAN, DEVIATION = 0.1, 0.2


def config(**changes: Any) -> DiffusionConfig:
    values: dict[str, Any] = {"timesteps": 200, "beta_end": 0.08, "clip": False, "sampler_steps": 30}
    return DiffusionConfig(**(values | changes))


class Gaussian(nn.Module):
    """The exact noise predictor of images whose pixels are N(MEAN + 0.1·label, DEVIATION²); no label counts as -1.

    overshoot: added to the images it stands for, in proportion to the timestep: an error that clipping takes away.
    """

    def __init__(self, settings: DiffusionConfig, overshoot: float = 0.0) -> None:
        super().__init__()
        self.overshoot = overshoot
        self.kept = torch.from_numpy(NoiseSchedule.of(settings).alphas_cumprod)
        self.asked: list[int] = []

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor | None, return_dict: bool) -> tuple[Tensor]:
        self.asked.append(len(noisy))
        kept = self.kept[timesteps][:, None, None, None]
        mean = (
            torch.full((len(noisy),), MEAN)
            if labels is None
            else MEAN + 0.1 * torch.where(labels == CLASSES, -1, labels)
        )
        centered = noisy.double() - kept.sqrt() * mean[:, None, None, None]
        noise = (1 - kept).sqrt() * centered / (kept * DEVIATION**2 + 1 - kept)
        error = self.overshoot * timesteps[:, None, None, None] / len(self.kept)
        return (noise - (kept / (1 - kept)).sqrt() * error,)


def gaussian(settings: DiffusionConfig, guidance: float = 0.0, overshoot: float = 0.0) -> tuple[Sampler, Gaussian]:
    net = Gaussian(settings, overshoot)
    return Sampler(Denoiser(net, SHAPE, CLASSES, True), settings, guidance, 3, CPU), net


def pixels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Images uint8[n, H, W, C] in [-1, 1]."""
    return images / 127.5 - 1


def start(count: int) -> NDArray[np.float64]:
    """The noise that `count` images start from, [n, H, W, C]."""
    return NoiseStreams(3, "image", range(count), SHAPE).draw(CPU).double().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_recovers_a_known_gaussian(name: str, schedule: str) -> None:
    settings = config(sampler=name, noise_schedule=schedule, sampler_steps=60)
    sampler, _ = gaussian(settings)
    labels = np.arange(300) % CLASSES
    drawn = pixels(sampler.sample(np.arange(300), labels))
    # 2,400 values a class: the mean's deviation is 0.004, the deviation's 0.003; plus what 200 or 60 steps are coarse.
    for label in range(CLASSES):
        assert abs(drawn[labels == label].mean() - MEAN - 0.1 * label) < 0.02
        assert abs(drawn[labels == label].std() - DEVIATION) < 0.02
    residual = drawn - MEAN - 0.1 * labels[:, None, None, None]
    neighbors = np.corrcoef(residual.reshape(300, -1), rowvar=False) - np.eye(24)
    assert np.abs(neighbors).max() < 0.25


@pytest.mark.parametrize("name", ["ddim", "dpm_solver++"])
def test_deterministic_samplers_follow_the_probability_flow(name: str) -> None:
    """A Gaussian's flow only scales: x_0 = m + s (x_T - √ᾱ_T m) / √(ᾱ_T s² + 1 - ᾱ_T)."""
    settings = config(sampler=name, sampler_steps={"ddim": 200, "dpm_solver++": 40}[name])
    sampler, _ = gaussian(settings)
    kept = NoiseSchedule.of(settings).alphas_cumprod[-1]
    scale = DEVIATION / np.sqrt(kept * DEVIATION**2 + 1 - kept)
    expected = MEAN + scale * (start(40) - np.sqrt(kept) * MEAN)
    drawn = pixels(sampler.sample(np.arange(40), np.zeros(40, dtype=np.int64)))
    error = np.sqrt(((drawn - np.clip(expected, -1, 1)) ** 2).mean())
    assert error < {"ddim": 0.03, "dpm_solver++": 0.012}[name]  # rounding to 8 bits alone is 0.0023


def by_hand(settings: DiffusionConfig, net: Gaussian, count: int, label: int) -> NDArray[np.float64]:
    """The samplers' formulas, in float64."""
    schedule = NoiseSchedule.of(settings)
    steps = schedule.descent(settings.timesteps if settings.sampler == "ancestral" else settings.sampler_steps).tolist()
    kept = np.append(schedule.alphas_cumprod, 1.0)  # index -1: the clean image
    streams = NoiseStreams(3, "image", range(count), SHAPE)
    x = streams.draw(CPU).double().numpy()
    before, gap_before = np.zeros_like(x), 0.0
    for here, there in zip(steps, [*steps[1:], -1], strict=True):
        a, b = kept[here], kept[there]
        labels = torch.full((count,), label)
        noise = net(torch.from_numpy(x), torch.full((count,), here), labels, False)[0].numpy()
        clean = (x - np.sqrt(1 - a) * noise) / np.sqrt(a)
        if settings.clip:
            clean = clean.clip(-1, 1)
            noise = (x - np.sqrt(a) * clean) / np.sqrt(1 - a)
        if settings.sampler == "ancestral":
            fresh = streams.draw(CPU).double().numpy()
            beta = 1 - a / b
            mean = (np.sqrt(b) * beta * clean + np.sqrt(a / b) * (1 - b) * x) / (1 - a)
            x = mean + np.sqrt(beta * (1 - b) / (1 - a)) * fresh
        elif settings.sampler == "ddim":
            x = np.sqrt(b) * clean + np.sqrt(1 - b) * noise
        elif there < 0:
            x = clean
        else:
            gap = np.log(np.sqrt(b / (1 - b))) - np.log(np.sqrt(a / (1 - a)))
            data = clean if gap_before == 0 else clean + (clean - before) / (2 * gap_before / gap)
            x = np.sqrt((1 - b) / (1 - a)) * x - np.sqrt(b) * (np.exp(-gap) - 1) * data
            before, gap_before = clean, gap
    return x.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_step_is_the_papers_formula(name: str, steps: int, clip: bool) -> None:
    timesteps = steps if name == "ancestral" else 200
    beta_end = 0.9 if name == "ancestral" else 0.08
    settings = config(sampler=name, sampler_steps=steps, clip=clip, timesteps=max(timesteps, 2), beta_end=beta_end)
    for overshoot in (0.0, 2.0):
        sampler, net = gaussian(settings, overshoot=overshoot)
        drawn = pixels(sampler.sample(np.arange(6), np.full(6, 2)))
        expected = by_hand(settings, net, 6, 2).clip(-1, 1)
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=0.5 / 127.5 + 2e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_clipping_happens_at_every_step(name: str) -> None:
    drawn = {}
    for clip in (True, False):
        settings = config(clip=clip, sampler=name, sampler_steps=4, timesteps=6, beta_end=0.9)
        sampler, _ = gaussian(settings, overshoot=2.0)
        drawn[clip] = pixels(sampler.sample(np.arange(9), np.full(9, 2)))
    # Both are clipped at the end, so the difference comes from the steps before.
    assert abs(drawn[True].mean() - drawn[False].mean()) > 0.01


@pytest.mark.parametrize(("name", "steps"), [("ancestral", 200), ("ddim", 30), ("dpm_solver++", 30)])
@pytest.mark.parametrize("guidance", [0.0, 1.8])
def test_evaluations_are_counted_as_they_happen(name: str, steps: int, guidance: float) -> None:
    sampler, net = gaussian(config(sampler=name), guidance)
    sampler.sample(np.arange(5), np.arange(5) % CLASSES)
    passes = 10 if guidance else 5
    assert net.asked == [passes] * steps  # a guided pair is one pass
    assert sampler.evaluations == sum(net.asked) // 5


@pytest.mark.parametrize("guidance", [0.5, 1.8])
def test_guidance_is_its_formula(guidance: float) -> None:
    """Of two Gaussians of one deviation, the guided one has the mean (1 + w) m_c - w m_0."""
    sampler, _ = gaussian(config(), guidance)
    drawn = pixels(sampler.sample(np.arange(300), np.full(300, 1)))
    expected = (1 + guidance) * (MEAN + 0.1) - guidance * (MEAN - 0.1)
    assert abs(drawn.mean() - expected) < 0.02


def real(conditional: bool = True, dropout: float = 0.5) -> Denoiser:
    """An untrained network."""
    torch.manual_seed(0)
    settings = config(channels=(8, 8), dropout=dropout, conditional=conditional)
    return build_denoiser(settings, (1, 8, 8), CLASSES)


def test_no_guidance_is_the_conditional_model() -> None:
    class Unguided(Denoiser):
        """Answers no question without a label."""

        def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
            assert (labels < CLASSES).all()
            return super().forward(noisy, timesteps, labels)

    settings = config(sampler_steps=4, timesteps=6, beta_end=0.9, clip=True)
    ids, labels = np.arange(4), np.arange(4) % CLASSES
    plain = Sampler(Unguided(real().net, (1, 8, 8), CLASSES, True), settings, 0.0, 0, CPU).sample(ids, labels)
    barely, strongly = (Sampler(real(), settings, guidance, 0, CPU).sample(ids, labels) for guidance in (1e-9, 3.0))
    assert np.abs(plain.astype(int) - barely).max() <= 1
    assert np.abs(plain.astype(int) - strongly).max() > 1


def test_guidance_of_a_denoiser_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match=r"^diffusion\.guidance is 1\.8, and this denoiser knows no labels: set it"):
        Sampler(real(conditional=False), config(), 1.8, 0, CPU)
    sampler = Sampler(real(conditional=False), config(sampler_steps=2), 0.0, 0, CPU)
    some, others = (sampler.sample(np.arange(3), labels) for labels in (np.full(3, -1), np.arange(3)))
    np.testing.assert_array_equal(some, others)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_depends_on_its_id_and_label_not_on_its_batch(name: str, precision: str) -> None:
    settings = config(sampler=name, sampler_steps=4, timesteps=6, beta_end=0.9, clip=True)
    ids = np.array([11, 3, 2**40, 0, 7, 12])
    labels = np.arange(6) % CLASSES

    def drawn(rows: list[int]) -> NDArray[np.uint8]:
        return Sampler(real(), settings, 0.5, 1, CPU, precision).sample(ids[rows], labels[rows])

    together = drawn([0, 1, 2, 3, 4, 5])
    assert together.dtype == np.uint8
    assert together.shape == (6, 8, 8, 1)
    np.testing.assert_array_equal(together, drawn([0, 1, 2, 3, 4, 5]))
    apart = np.concatenate([drawn([0, 1, 2, 3]), drawn([4, 5])])
    far = np.abs(together.astype(int) - apart)
    assert far.max() <= (1 if precision == "fp32" else 12)
    if precision == "fp32":
        assert (far > 0).mean() < 0.01
    others = np.abs(together.astype(int) - np.roll(together, 1, axis=0))
    assert (others.mean(axis=(1, 2, 3)) > 15).all(), "all images are alike, so the comparison says nothing"


def test_many_images_come_in_batches_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(sampler_steps=5)
    sampler, net = gaussian(settings)
    ids, labels = np.arange(10), np.arange(10) % CLASSES
    whole = sampler.sample(ids, labels)
    monkeypatch.setattr(module, "_BATCH", 4)
    np.testing.assert_array_equal(sampler.sample(ids, labels), whole)
    assert net.asked == [10] * 5 + [4] * 10 + [2] * 5
    assert sampler.sample(ids[:0], labels[:0]).shape == (0, 4, 3, 2)


def test_seeds_and_ids_draw_other_images() -> None:
    settings = config(sampler_steps=5)
    net = Gaussian(settings)
    one, other = (Sampler(Denoiser(net, SHAPE, CLASSES, True), settings, 0.0, seed, CPU) for seed in (0, 1))
    labels = np.zeros(4, dtype=np.int64)
    images = np.concatenate([one.sample(np.arange(4), labels), one.sample(np.arange(4, 8), labels)])
    images = np.concatenate([images, other.sample(np.arange(4), labels)])
    assert len(np.unique(images, axis=0)) == 12


def test_images_are_clipped_and_rounded_to_bytes() -> None:
    settings = config(sampler="ddim", sampler_steps=5)
    sampler, net = gaussian(settings)
    drawn = sampler.sample(np.arange(4), np.full(4, 8))
    expected = as_images(torch.from_numpy(by_hand(settings, net, 4, 8))).numpy()
    assert drawn.max() == 255
    assert np.abs(drawn.astype(int) - expected).max() <= 1
