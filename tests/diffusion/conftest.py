"""What the tests of a denoiser's training share."""

import pytest

from tests.diffusion.denoiser_training import Recorder, install


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(Recorder(), monkeypatch)
