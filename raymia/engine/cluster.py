"""Ray, started quietly or joined; what it offers, checked before anything trains."""

import logging
import math
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from raymia.config import EngineConfig
from raymia.errors import InputError, RunError
from raymia.store import Store

# Ray reads these when it is imported: no loggers of its own, one trial's output is ours to show, Ctrl-C is ours.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# A driver of trials uses no CPU, but must stay on the head node, where no pre-emption takes it.
HEAD_SLIVER = {"node:__internal_head__": 0.001}
_ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Cluster:
    """What the study runs on. joined: an existing cluster rather than our own.

    nodes: ids of the nodes alive. shapes: CPUs and GPUs of each of them. cpus, gpus: of all together.
    """

    nodes: tuple[str, ...]
    shapes: tuple[tuple[float, float], ...]
    joined: bool

    @property
    def cpus(self) -> float:
        return sum(cpus for cpus, _ in self.shapes)

    @property
    def gpus(self) -> float:
        return sum(gpus for _, gpus in self.shapes)

    def room(self, engine: EngineConfig) -> int:
        """How many workers of models fit at once; each needs its CPUs and GPUs on one node."""
        return sum(_workers_on(cpus, gpus, engine) for cpus, gpus in self.shapes)


def _workers_on(cpus: float, gpus: float, engine: EngineConfig) -> int:
    by_cpus = math.floor(cpus / engine.threads_per_worker)
    # A tenth of a GPU fits ten times, whatever binary fractions say.
    return min(by_cpus, math.floor(gpus / engine.gpus_per_worker + 1e-9)) if engine.gpus_per_worker else by_cpus


@contextmanager
def started(address: str | None, engine: EngineConfig) -> Iterator[Cluster]:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine; shut down at the end.

    Raises InputError when no cluster answers there, or when it can never satisfy what one model asks for.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    joined = address or os.environ.get("RAY_ADDRESS")
    if joined:
        _check_address(joined)
    import ray  # after the environment is set

    before = signal.getsignal(signal.SIGTERM)
    ended_by: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended_by.append(number)
        raise SystemExit(128 + number)

    try:
        _connect(joined, engine)
        signal.signal(signal.SIGTERM, end)
        for name in ("ray.tune", "ray.tune.tune", "ray.tune.analysis.experiment_analysis", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        cluster = described(joined=bool(joined))
        check_resources(engine, cluster)
        yield cluster
    except SystemExit:
        # Ray, when a call of its own is interrupted, exits with 1.
        if ended_by:
            raise SystemExit(128 + ended_by[0]) from None
        raise
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def _check_address(address: str) -> None:
    """Raise InputError where nobody listens: Ray itself would try for minutes, and fill the console with it."""
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: a study cannot run through Ray Client; start it on a machine of the cluster with "
            "--address HOST:6379, or hand it in by `ray job submit`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        return  # `auto`, or something that Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers ({error}); give the HOST:PORT that `ray start --head` "
            "printed, or leave it (and RAY_ADDRESS) out to run on this machine"
        ) from None


def _connect(address: str | None, engine: EngineConfig) -> None:
    import ray

    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            # Without its dashboard Ray cannot clean up after a stopped group of workers; single workers need none.
            # `local`: without an address Ray would join whatever cluster was last started on this machine.
            ray.init(
                address="local",
                include_dashboard=engine.workers_per_model > 1,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        if address:
            raise InputError(
                f"--address {address}: no Ray cluster answers ({reason}); check the address and RAY_AUTH_MODE's token"
            ) from None
        raise RunError(f"Ray did not start: {reason}") from None


def described(*, joined: bool) -> Cluster:
    """The cluster this process is connected to, as it is now."""
    import ray

    nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"])
    return Cluster(
        nodes=tuple(node["NodeID"] for node in nodes),
        shapes=tuple((node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in nodes),
        joined=joined,
    )


def check_resources(engine: EngineConfig, cluster: Cluster) -> None:
    """Raise InputError where one model asks for more than the whole cluster has: Ray would wait for ever.

    Counted are the nodes alive: what a cluster may yet add, nobody here knows.
    """
    cpus = engine.workers_per_model * engine.threads_per_worker
    if cpus > cluster.cpus:
        remedy = (
            "lower one of them"
            if cluster.cpus
            else "start a worker node first (min_workers: 1 of a cluster that adds nodes as they are needed)"
        )
        raise InputError(
            f"engine.workers_per_model × engine.threads_per_worker is {cpus}, the cluster has {cluster.cpus:g} CPUs: "
            f"{remedy}"
        )
    gpus = engine.workers_per_model * engine.gpus_per_worker
    if gpus > cluster.gpus:
        raise InputError(
            f"engine.gpus_per_worker asks for {gpus:g} GPUs a model, the cluster has {cluster.gpus:g}: "
            "set engine.gpus_per_worker=0 to train on CPUs"
        )
    room = cluster.room(engine)
    if room < engine.workers_per_model:
        raise InputError(
            f"engine.threads_per_worker: the cluster's nodes hold {room} workers of {engine.threads_per_worker} CPUs "
            f"and {engine.gpus_per_worker:g} GPUs, a model needs {engine.workers_per_model}: lower one of them"
        )


def check_nodes(cluster: Cluster, store: Store, precision: str, device: str) -> None:
    """Raise InputError where a node cannot see the store, or would train on a `device` without fast `precision`."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = f"probes/{uuid.uuid4().hex}"
    store.write(probe, b"", {})
    task = ray.remote(num_cpus=0)(_node_problem)
    try:
        problems = ray.get(
            [
                task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                    store, probe, precision, device if shape[device == "cuda"] else None
                )
                for node, shape in zip(cluster.nodes, cluster.shapes, strict=True)
            ]
        )
    finally:
        store.delete(probe)
    for problem in problems:
        if problem:
            raise InputError(problem)


def _node_problem(store: Store, probe: str, precision: str, device: str | None) -> str | None:
    import platform

    from raymia.engine.precision import has_fast_bf16
    from raymia.errors import RaymiaError

    try:
        store.read(probe)
    except (RaymiaError, OSError):
        return (
            f"--results {store.root}: node {platform.node()} does not see this folder; "
            "give one that every node shares (a network mount, s3://…)"
        )
    if precision == "bf16" and device is not None and not has_fast_bf16(device):
        return (
            f"training.precision: the {device} of node {platform.node()} has no fast bf16; set training.precision=fp32"
        )
    return None
