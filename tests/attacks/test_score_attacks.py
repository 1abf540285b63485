import numpy as np
import pytest

from raymia.attacks import Attack, AttackerView, Entropy, GradientNorm, Loss, ModifiedEntropy, Signals, run_attack

P = np.log([[0.7, 0.2, 0.1]] * 2).astype(np.float32)
OTHER_QUERY = np.log([[0.1, 0.1, 0.8]] * 2).astype(np.float32)
SIGNALS = Signals(np.stack([P, OTHER_QUERY], axis=1), np.array([0, 2]))


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (Loss(), [np.log(0.7), np.log(0.1)]),
        (Entropy(), [-0.80182, -0.80182]),
        (ModifiedEntropy(), [-0.16217, -2.95974]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_known_answers_at_the_record_itself(attack: Attack, expected: list[float]) -> None:
    scores = run_attack(attack, AttackerView(3), SIGNALS, np.random.default_rng(0))
    assert scores == pytest.approx(expected, abs=1e-5)


def test_modified_entropy_tells_sure_and_wrong_from_sure_and_right_where_entropy_cannot() -> None:
    logits_NQC = np.array([[[8, 0, 0]], [[8, 0, 0]]], np.float32)
    signals = Signals(logits_NQC, np.array([0, 1]))
    right, wrong = ModifiedEntropy().score(None, signals)
    assert right > wrong + 1
    right, wrong = Entropy().score(None, signals)
    assert right == wrong


def test_a_small_gradient_is_a_members() -> None:
    signals = Signals(SIGNALS.logits_NQC, SIGNALS.labels_N, gradient_norm_N=np.array([3.0, 0.5]))
    assert list(run_attack(GradientNorm(), AttackerView(3), signals, np.random.default_rng(0))) == [-3.0, -0.5]
