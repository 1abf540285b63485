"""Adversarial training by two workers: DistributedDataParallel against one worker."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raymia.adversarial import CraftedBatch
from raymia.defenses import AWP, MART, PGDAT, TRADES, TRADESAWP, DeMem
from raymia.training.defense import Batch, Defense
from raymia.training.run import Alone, Group
from tests.adversarial.crafting import image_batch, image_run, images, normalized

WEAK = {"epsilon": 0.1, "steps": 2, "step_size": 0.05}
METHODS: dict[str, tuple[Defense, ...]] = {
    "standard": (DeMem(strength=0.5),),
    "pgd_at": (PGDAT(), DeMem(strength=0.5)),
    "trades": (TRADES(), DeMem(strength=0.5)),
    "mart": (MART(), DeMem(strength=0.5, mode="class_variance")),
    "awp": (PGDAT(), AWP(gamma=0.1), DeMem(strength=0.5, mode="std")),
    "trades_awp": (TRADESAWP(gamma=0.1), DeMem(strength=0.5, mode="var_low")),
}
COUNT = 7


def plain_net() -> nn.Sequential:
    """Without batch statistics, which are each worker's own."""
    torch.manual_seed(4)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def share(group: Group) -> Batch:
    """The worker's part of a batch of seven, with examples that were crafted already: starts are each worker's own."""
    numbers = torch.from_numpy(np.array_split(np.arange(COUNT), group.world)[group.rank])
    whole = image_batch(COUNT)
    part = Batch(whole.inputs[numbers], whole.labels[numbers], whole.targets[numbers])
    return CraftedBatch.of(part, images(COUNT, seed=9)[numbers])


def stepped(name: str, group: Group) -> dict[str, Tensor]:
    """The weights after two steps, and the last one's gradients."""
    run = image_run(*METHODS[name], net=plain_net(), group=group, rate=0.5)
    run.network = group.wrap(run.network)
    for _ in range(2):
        run.step(share(group), COUNT)
    found = {key: value.detach().clone() for key, value in run.model.named_parameters()}
    slopes = {f"{key}.grad": value.grad for key, value in run.model.named_parameters() if value.grad is not None}
    assert len(slopes) == len(found)
    return found | slopes


def trained(name: str, group: Group) -> dict[str, Tensor]:
    """The state after two steps of the whole method with batch statistics, crafting included."""
    run = image_run(*METHODS[name], net=normalized(), group=group, rate=0.1)
    run.network = group.wrap(run.network)
    run.network.train()
    run.begin_epoch(0)
    for _ in range(2):
        part = share(group)
        run.step(run.defense.batch(run, Batch(part.inputs, part.labels, part.targets)), COUNT)
    return {key: value.clone() for key, value in run.model.named_parameters()}


_WORKER = """
import sys
import torch
from torch import distributed
from raymia.engine.group import TorchGroup
from tests.defenses.test_adversarial_workers import METHODS, stepped, trained

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
group = TorchGroup(torch.device("cpu"))
found = {name: (stepped(name, group), trained(name, group)) for name in METHODS}
torch.save(found, f"{folder}/rank-{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_workers_take_one_workers_steps(tmp_path: Path) -> None:
    """Shares of four and three records; then a network with batch statistics, from the crafting on."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", _WORKER, str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for rank in (0, 1)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name in METHODS:
        alone = stepped(name, Alone())
        for found in ranks:
            for key, expected in alone.items():
                torch.testing.assert_close(found[name][0][key], expected, rtol=1e-4, atol=1e-6)
        first, second = (found[name][1] for found in ranks)
        assert all(bool(value.isfinite().all()) for value in first.values())
        assert all(torch.equal(first[key], second[key]) for key in first), name
