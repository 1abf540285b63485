"""Ray, started quietly or joined; what it offers, checked before anything trains."""

import logging
import os
import signal
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
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# A driver of trials uses no CPU, but must stay on the head node, where no pre-emption takes it.
HEAD_SLIVER = {"node:__internal_head__": 0.001}


@dataclass(frozen=True)
class Cluster:
    """What the study runs on. nodes: addresses of the nodes alive. joined: an existing cluster rather than our own."""

    nodes: tuple[str, ...]
    cpus: float
    gpus: float
    joined: bool


@contextmanager
def started(address: str | None, engine: EngineConfig) -> Iterator[Cluster]:
    """Join the cluster at `address` (or RAY_ADDRESS), else start Ray on this machine; shut down at the end.

    Raises InputError when no cluster answers there, or when it can never satisfy what one model asks for.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    import ray  # after the environment is set

    joined = address or os.environ.get("RAY_ADDRESS")
    before = signal.getsignal(signal.SIGTERM)
    try:
        _connect(joined, engine)
        signal.signal(signal.SIGTERM, _exit_on_sigterm)
        for name in ("ray.tune", "ray.tune.tune", "ray.tune.analysis.experiment_analysis", "ray.train", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        cluster = _described(bool(joined))
        check_resources(engine, cluster)
        yield cluster
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def _connect(address: str | None, engine: EngineConfig) -> None:
    import ray

    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            # Without its dashboard Ray cannot clean up after a stopped group of workers; single workers need none.
            ray.init(
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


def _described(joined: bool) -> Cluster:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    resources = ray.cluster_resources()
    return Cluster(
        nodes=tuple(sorted(node["NodeID"] for node in nodes)),
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        joined=joined,
    )


def check_resources(engine: EngineConfig, cluster: Cluster) -> None:
    """Raise InputError where one model asks for more than the whole cluster has: Ray would wait for ever."""
    cpus = engine.workers_per_model * engine.threads_per_worker
    if cpus > cluster.cpus:
        raise InputError(
            f"engine.workers_per_model × engine.threads_per_worker is {cpus}, the cluster has {cluster.cpus:g} CPUs: "
            "lower one of them"
        )
    gpus = engine.workers_per_model * engine.gpus_per_worker
    if gpus > cluster.gpus:
        raise InputError(
            f"engine.gpus_per_worker asks for {gpus:g} GPUs a model, the cluster has {cluster.gpus:g}: "
            "set engine.gpus_per_worker=0 to train on CPUs"
        )


def check_nodes(cluster: Cluster, store: Store, precision: str) -> None:
    """Raise InputError where a node cannot see the store, or cannot compute in the study's precision."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = f"probes/{uuid.uuid4().hex}"
    store.write(probe, b"", {})
    task = ray.remote(num_cpus=0)(_node_problem)
    try:
        problems = ray.get(
            [
                task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                    store, probe, precision
                )
                for node in cluster.nodes
            ]
        )
    finally:
        store.delete(probe)
    for problem in problems:
        if problem:
            raise InputError(problem)


def _node_problem(store: Store, probe: str, precision: str) -> str | None:
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
    if precision == "bf16" and not has_fast_bf16():
        return f"training.precision: node {platform.node()} has no fast bf16; set training.precision=fp32"
    return None


def _exit_on_sigterm(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
