"""Differential privacy: what a training spends, and which networks give per-sample gradients."""

from raymia.privacy.accountant import MEANINGLESS, Guarantee, default_delta, noise_for, spent
from raymia.privacy.per_sample import leave_gradients, per_sample_network, without_coupling

__all__ = [
    "MEANINGLESS",
    "Guarantee",
    "default_delta",
    "leave_gradients",
    "noise_for",
    "per_sample_network",
    "spent",
    "without_coupling",
]
