"""What DP-SGD spends: against the formula sheet, the exact Gaussian mechanism, and the promises of each function."""

import logging
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import ndtr

from raymia.errors import InputError
from raymia.privacy import Guarantee, default_delta, noise_for, spent
from raymia.privacy.lazy_opacus import opacus_module

# Noise multipliers of Opacus' RDP accountant for 15,000 records and δ = 1e-5: (batch, epochs) -> by target ε.
TARGETS = (1.0, 2.0, 4.0, 8.0, 16.0)
RDP_NOISE = {
    (256, 30): (3.02, 1.73, 1.10, 0.80, 0.62),
    (512, 50): (5.38, 2.94, 1.71, 1.10, 0.79),
    (1024, 50): (7.57, 4.10, 2.31, 1.41, 0.95),
    (1024, 100): (10.6, 5.70, 3.15, 1.84, 1.18),
}
TABLE = [
    (batch, epochs, target, noise)
    for (batch, epochs), row in RDP_NOISE.items()
    for target, noise in zip(TARGETS, row, strict=True)
]


def steps_of(batch: int, epochs: int) -> int:
    return int(epochs * 15000 / batch)


@pytest.mark.parametrize(("batch", "epochs", "target", "noise"), TABLE)
def test_a_tight_accountant_spends_a_little_less_than_the_table_of_rdp(
    batch: int, epochs: int, target: float, noise: float
) -> None:
    found = spent(noise, batch / 15000, steps_of(batch, epochs), 1e-5)
    assert found.accountant == "prv"
    assert 0.82 * target < found.epsilon < target


@pytest.mark.parametrize(("batch", "epochs", "target", "noise"), [TABLE[0], TABLE[1], TABLE[17]])
def test_the_noise_for_a_target_is_a_little_below_the_table_of_rdp_and_keeps_it(
    batch: int, epochs: int, target: float, noise: float
) -> None:
    rate, steps = batch / 15000, steps_of(batch, epochs)
    found = noise_for(target, rate, steps, 1e-5)
    assert 0.9 * noise < found < noise
    assert target - 0.03 < spent(found, rate, steps, 1e-5).epsilon <= target
    assert found == round(found, 3)


def test_a_target_without_meaning_is_met_by_the_fast_accountant() -> None:
    found = noise_for(1000.0, 1 / 3, 120, 1e-3)
    assert 0.97 * 1000 < spent(found, 1 / 3, 120, 1e-3).epsilon <= 1000
    assert spent(found, 1 / 3, 120, 1e-3).accountant == "rdp"


def exact_gaussian(noise: float, steps: int, delta: float) -> float:
    """ε of `steps` Gaussian mechanisms without sampling (Balle & Wang 2018, theorem 8)."""
    mu = math.sqrt(steps) / noise

    def excess(epsilon: float) -> float:
        return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon) * ndtr(-mu / 2 - epsilon / mu)) - delta

    return float(optimize.brentq(excess, 0, 400))


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (5.0, 40), (20.0, 40), (1.5, 10)])
def test_without_sampling_it_is_the_gaussian_mechanism(noise: float, steps: int) -> None:
    exact = exact_gaussian(noise, steps, 1e-4)
    assert exact <= spent(noise, 1.0, steps, 1e-4).epsilon <= exact + 0.04


def test_more_noise_less_sampling_and_fewer_steps_spend_less() -> None:
    base = spent(1.0, 0.02, 500, 1e-5).epsilon
    assert spent(1.2, 0.02, 500, 1e-5).epsilon < base
    assert spent(1.0, 0.015, 500, 1e-5).epsilon < base
    assert spent(1.0, 0.02, 400, 1e-5).epsilon < base
    assert spent(1.0, 0.02, 500, 1e-4).epsilon < base


def test_what_is_too_large_for_prv_is_bounded_by_rdp() -> None:
    for noise, rate in ((0.2, 0.3), (0.01, 0.3), (0.001, 1.0)):
        found = spent(noise, rate, 100, 1e-5)
        assert found.accountant == "rdp"
        assert 100 < found.epsilon < math.inf


def test_a_failure_of_prv_is_made_good_by_rdp(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> float:
        raise RuntimeError("Discrete mean differs significantly from continuous mean.")

    tight = spent(1.1, 0.02, 500, 1e-5)
    monkeypatch.setattr(opacus_module("accountants.prv").PRVAccountant, "get_epsilon", failing)
    spent.cache_clear()
    noise_for.cache_clear()
    loose = spent(1.1, 0.02, 500, 1e-5)
    assert loose.accountant == "rdp"
    assert tight.epsilon < loose.epsilon < 1.2 * tight.epsilon
    assert spent(noise_for(2.0, 0.02, 500, 1e-5), 0.02, 500, 1e-5).epsilon <= 2.0
    spent.cache_clear()
    noise_for.cache_clear()


def test_no_noise_is_no_guarantee() -> None:
    assert spent(0.0, 0.1, 10, 1e-5) == Guarantee(math.inf, 1e-5, "none")
    assert str(spent(0.0, 0.1, 10, 1e-5)) == "ε = ∞ at δ = 1e-05, no meaningful guarantee"


def test_a_guarantee_says_when_it_means_nothing() -> None:
    assert str(Guarantee(20.0, 1e-5, "prv")) == "ε = 20 at δ = 1e-05"
    assert Guarantee(20.0, 1e-5, "prv").meaningful
    assert str(Guarantee(20.1, 1e-3, "prv")) == "ε = 20.1 at δ = 0.001, no meaningful guarantee"


def test_a_small_target_is_met_too() -> None:
    found = noise_for(0.05, 0.1, 100, 1e-5)
    assert 0.03 < spent(found, 0.1, 100, 1e-5).epsilon <= 0.05


def test_a_target_that_no_noise_gives_is_refused() -> None:
    with pytest.raises(InputError, match=r"dp_sgd\.epsilon: no noise spends as little as 1e-06 in 500 steps"):
        noise_for(1e-6, 0.5, 500, 1e-5)


@given(st.integers(1, 10**9))
def test_delta_is_the_largest_power_of_ten_below_one_in_n(records: int) -> None:
    power = round(-math.log10(default_delta(records)))
    assert default_delta(records) == float(f"1e-{power}")
    assert records < 10**power <= 10 * records


def test_delta_of_known_sizes() -> None:
    assert [default_delta(records) for records in (150, 999, 1000, 15000)] == [1e-3, 1e-3, 1e-4, 1e-5]


def test_opacus_is_imported_late_and_leaves_the_root_logger_alone() -> None:
    code = (
        "import logging, sys, raymia.defenses; assert 'opacus' not in sys.modules\n"
        "from raymia.privacy import spent; spent(1.0, 0.5, 2, 1e-3)\n"
        "assert 'opacus' in sys.modules; assert logging.getLogger().handlers == []"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    opacus_module("accountants")
    assert handler in logging.getLogger().handlers
    logging.getLogger().removeHandler(handler)
