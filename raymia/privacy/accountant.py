"""What DP-SGD spends, by Opacus' accountants: Poisson sampling, Gaussian noise, neighbors by adding or removing one.

A plain function of the noise, the sampling rate and the steps: nothing has to be trained to know it.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from raymia.errors import InputError
from raymia.privacy.lazy_opacus import opacus_module

MEANINGLESS = 20.0
"""Above this ε a guarantee says nothing of use."""

# Between these ε the PRV accountant is used. Below, its own error of 0.01 weighs; above, nobody needs the ε exactly;
# outside it takes minutes.
_PRV_LEAST, _PRV_MOST = 0.1, 100.0

# Rényi orders: Opacus' own, and larger ones for much noise. Below 12 in parts, and close to 1 for little noise.
_WHOLE = [*range(2, 64), 64, 80, 100, 128, 180, 256, 360, 512, 720, 1000]
_ORDERS = [*(1 + x / 1000 for x in (1, 2, 5, 10, 20, 50)), *(1 + x / 10 for x in range(1, 110)), *_WHOLE]

_SCALE = 1000

Accountant = Literal["prv", "rdp", "none"]


@dataclass(frozen=True)
class Guarantee:
    """(ε, δ)-differential privacy. epsilon: infinite without noise. accountant: whose upper bound it is.

    `prv`: numerical composition (Gopi, Lee, Wutschitz 2021, arXiv 2106.02848); `rdp`: Rényi (Mironov, Talwar, Zhang
    2019, arXiv 1908.10530), a little looser; `none`: there is no noise to account for.
    """

    epsilon: float
    delta: float
    accountant: Accountant

    @property
    def meaningful(self) -> bool:
        """Whether ε is small enough to say something."""
        return self.epsilon <= MEANINGLESS

    def __str__(self) -> str:
        size = "∞" if math.isinf(self.epsilon) else f"{self.epsilon:.3g}"
        return f"ε = {size} at δ = {self.delta:g}" + ("" if self.meaningful else ", no meaningful guarantee")


def default_delta(records: int) -> float:
    """The largest power of ten below 1/records: 1e-5 for 15,000. At 1/records, publishing one record would pass."""
    power = -math.floor(math.log10(records)) - 1
    return float(f"1e{power}")


@lru_cache(maxsize=1024)
def spent(noise_multiplier: float, rate: float, steps: int, delta: float) -> Guarantee:
    """The guarantee of `steps` steps with noise of deviation `noise_multiplier` times the clipping norm.

    rate: the probability with which each record enters a step, in (0, 1]. The PRV accountant's upper bound, or RDP's
    where that one is below 0.1, above 100, or PRV fails numerically.
    """
    if noise_multiplier == 0:
        return Guarantee(math.inf, delta, "none")
    bound = _epsilon("rdp", noise_multiplier, rate, steps, delta)
    if not _PRV_LEAST <= bound <= _PRV_MOST:
        return Guarantee(bound, delta, "rdp")
    try:
        # RDP's is a bound too: the smaller one holds.
        tight = _epsilon("prv", noise_multiplier, rate, steps, delta)
    except (RuntimeError, ValueError):
        tight = math.nan
    return Guarantee(tight, delta, "prv") if tight <= bound else Guarantee(bound, delta, "rdp")


@lru_cache(maxsize=1024)
def noise_for(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """The least noise multiplier, to three decimals upward, that spends at most `epsilon`; arguments as in `spent`.

    Raises InputError where no noise is enough.
    """
    # PRV takes minutes where little noise is enough, and an exact σ for an ε without meaning is worth nothing.
    for accountant in ("prv", "rdp") if _PRV_LEAST <= epsilon <= MEANINGLESS else ("rdp",):
        try:
            exact = _search(accountant, epsilon, rate, steps, delta)
        except (RuntimeError, ValueError):
            continue
        # Rounded: Opacus stops where it is near enough, and the last bits of its answer differ between machines.
        return math.ceil(exact * _SCALE) / _SCALE
    raise InputError(f"dp_sgd.epsilon: no noise spends as little as {epsilon:g} in {steps} steps; give a larger one")


def _search(accountant: str, epsilon: float, rate: float, steps: int, delta: float) -> float:
    # The series of broken orders hardly end where much noise is tried.
    orders = {"alphas": _WHOLE if epsilon < _PRV_LEAST else _ORDERS} if accountant == "rdp" else {}
    search = opacus_module("accountants.utils").get_noise_multiplier
    with _calm():
        found = search(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=rate,
            steps=steps,
            accountant=accountant,
            epsilon_tolerance=min(0.01, epsilon / 100),
            **orders,
        )
    return float(found)


def _epsilon(accountant: str, noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    orders = {"alphas": _ORDERS} if accountant == "rdp" else {}
    account = opacus_module("accountants").create_accountant(accountant)
    account.history = [(noise_multiplier, rate, steps)]
    with _calm():
        return max(float(account.get_epsilon(delta, **orders)), 0.0)


@contextmanager
def _calm() -> Iterator[None]:
    """Opacus warns when the best Rényi order is the first or last of its list, and of overflow far out in a tail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
