"""One model trained by several workers: Ray Train with DistributedDataParallel, gloo on CPUs, NCCL on GPUs."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import ray
import torch
from ray import train
from ray.train.torch import TorchConfig, TorchTrainer
from torch import distributed, nn

from raymia.engine.outcome import Failure, guarded
from raymia.engine.rows import fetch_on_cluster
from raymia.errors import DivergedError, RunError
from raymia.recipes.recipe import Bench, Recipe, Report
from raymia.store import Store

# Ray Train hands these on to a group's processes. The first paces every poll and the end of a run (its own: 2 s); the
# second is the patience while short tasks of other settings hold the CPUs, and workers import torch (its own: 60 s).
_PACE = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600"}


class TorchGroup:
    """The workers of a torch process group; see `raymia.training.run.Group`."""

    def __init__(self, device: torch.device) -> None:
        self.rank = distributed.get_rank()
        self.world = distributed.get_world_size()
        self._device = device

    def wrap(self, model: nn.Module) -> nn.Module:
        ids = [self._device.index] if self._device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def mean(self, value: float) -> float:
        total = torch.tensor(value, dtype=torch.float64, device=self._device)
        distributed.all_reduce(total)
        return float(total) / self.world


def build_in_group(recipe: Recipe, records: Any, store: Store, report: Report) -> None:
    """Build a recipe with `recipe.workers` workers. records: a reference to the study's records.

    The recipe keeps its own checkpoints in the store, by content, so a group that is started again goes on where the
    last one was. Raises DivergedError as a single worker would, RunError when the workers fail.
    """
    os.environ.update({name: value for name, value in _PACE.items() if name not in os.environ})
    gpu = recipe.gpus > 0
    resources = {"CPU": recipe.threads, **({"GPU": recipe.gpus} if gpu else {})}
    # Ray Train keeps a folder a run; nothing in it is needed, so it must not pile up in the home folder.
    with tempfile.TemporaryDirectory(prefix="raymia-group-") as folder:
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"recipe": recipe, "records": [records], "store": store, "report": report},
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=train.ScalingConfig(num_workers=recipe.workers, use_gpu=gpu, resources_per_worker=resources),
            run_config=train.RunConfig(
                name=recipe.key,
                storage_path=folder,
                failure_config=train.FailureConfig(max_failures=3, controller_failure_limit=3),
            ),
        )
        try:
            failure = trainer.fit().return_value
        except train.TrainingFailedError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"{recipe.label}: its group of workers failed: {reason}") from None
    if failure is not None:
        raise DivergedError(failure.message)


def _worker(config: dict[str, Any]) -> Failure | None:
    device = train.torch.get_device()
    group = TorchGroup(device)
    bench = Bench(
        ray.get(config["records"][0]),
        config["store"],
        group,
        device,
        config["report"] if group.rank == 0 else _silent,
        fetch=fetch_on_cluster,
    )
    with _join_errors():
        return guarded(lambda: config["recipe"].build(bench))


@contextlib.contextmanager
def _join_errors() -> Iterator[None]:
    """Leave the group together: a worker that finished early must not tear it down under the others."""
    yield
    distributed.barrier()


def _silent(done: int, total: int) -> None:
    """Rank 0 speaks for the group."""
