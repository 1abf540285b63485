"""Versions of the stages: raised by hand when a stage's source changes what it computes, so that old artifacts retire.

A defense carries its own (`version`). The lock in `tests/` holds a digest of each stage's source; a test fails when a
source changes and its version does not.
"""

VERSIONS = {
    "records": 1,
    "models": 1,
    "denoiser": 1,
    "drawing": 2,
    "training": 1,
    "signals": 2,
    "robustness": 1,
    "attacks": 2,
    "leak": 2,
    "metrics": 2,
    "quality": 2,
    "results": 2,
}
