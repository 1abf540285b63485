"""Several workers that train one denoiser."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from raymia.diffusion.denoiser import build_denoiser
from raymia.training.loop import State
from tests.diffusion.denoiser_training import Recorder, Worker, fit, install, small_plan


@pytest.mark.parametrize("world", [2, 3])
def test_workers_gradients_average_to_a_single_workers(world: int) -> None:
    """Batches of 5, so that shares differ in size. A rate of nearly 0 keeps the workers at the same weights."""
    plan = small_plan(batch_size=5, dropout=0.0, iterations=2, learning_rate=1e-30)
    alone = Worker(0, 1)
    history = fit(plan, group=alone).history
    workers = [Worker(rank, world) for rank in range(world)]
    keepers = [fit(plan, group=worker) for worker in workers]
    assert alone.seen
    for index, gradient in enumerate(alone.seen):
        mean = torch.stack([worker.seen[index] for worker in workers]).mean(dim=0)
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-6)
    differ = [not torch.allclose(a, b) for a, b in zip(workers[0].seen, workers[1].seen, strict=True)]
    assert any(differ)
    assert [keeper.ended for keeper in keepers] == [2] + [None] * (world - 1)
    assert not any(keeper.saved for keeper in keepers[1:])
    assert history[0] > 0


def test_workers_drop_out_differently_and_repeatably(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(rank: int) -> list[float]:
        """What a layer of dropout would draw in each iteration."""
        found: list[float] = []

        def draw(call: int, prediction: Tensor) -> Tensor:
            found.append(torch.rand(()).item())
            return prediction

        install(Recorder(draw), monkeypatch)
        fit(small_plan(iterations=3), group=Worker(rank, 2))
        return found

    first, again, other = draws(0), draws(0), draws(1)
    assert first == again
    assert len({*first, *other}) == 6


_TWO_WORKERS = """
import sys
import torch
from torch import distributed
from raymia.engine.group import TorchGroup
from raymia.diffusion.train import train_denoiser
from tests.diffusion.denoiser_training import CPU, MemoryKeeper, small_plan

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
keeper = MemoryKeeper()
plan = small_plan(batch_size=5, dropout=0.0, iterations=6, learning_rate=1e-3)
train_denoiser(plan, keeper, TorchGroup(CPU), CPU)
torch.save({"weights": keeper.weights, "history": keeper.history}, f"{folder}/rank-{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def predictions(weights: State) -> Tensor:
    denoiser = build_denoiser(small_plan().config, (1, 4, 4), 3).eval()
    denoiser.load_state_dict(weights)
    noisy = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noise: Tensor = denoiser(noisy, torch.tensor([0, 13, 26, 39]), torch.tensor([0, 1, 2, 3]))
    return noise


@pytest.mark.slow
def test_two_workers_train_what_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-c", _TWO_WORKERS, str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for rank in (0, 1)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    found = torch.load(tmp_path / "rank-0.pt", weights_only=True)
    expected = fit(small_plan(batch_size=5, dropout=0.0, iterations=6, learning_rate=1e-3))
    # Not the weights: Adam follows the rounding of gradients that should be 0, such as a bias's before a group norm.
    torch.testing.assert_close(predictions(found["weights"]), predictions(expected.weights), rtol=1e-3, atol=1e-4)
    untrained = fit(small_plan(batch_size=5, dropout=0.0, iterations=6, learning_rate=1e-30))
    assert not torch.allclose(predictions(untrained.weights), predictions(expected.weights), rtol=0.01, atol=0.01)
    np.testing.assert_allclose(found["history"], expected.history, rtol=1e-4)
    assert not torch.load(tmp_path / "rank-1.pt", weights_only=True)["weights"]
