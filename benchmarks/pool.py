"""What a model costs beside its training: through the warm workshop, and through a worker group of its own."""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch

from benchmarks.figure import Figure, seconds, spread
from benchmarks.workload import noise_images, recipe, training
from raymia.engine.workshop import open_workshop
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.store import Store


@contextmanager
def _ray(cpus: int, dashboard: bool = False) -> Iterator[None]:
    ray.init(address="local", num_cpus=cpus, include_dashboard=dashboard, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _workshop(records: Records, cpus: int) -> Iterator[Callable[..., None]]:
    """A function that has models made by a workshop whose workers have torch loaded."""
    with tempfile.TemporaryDirectory() as folder, _ray(cpus):
        workshop = open_workshop(ray.put(records), Store(folder))

        def build(*models: ModelRecipe) -> None:
            failures = [one for one in ray.get([workshop.make.remote(model) for model in models]) if one]
            if failures:
                raise RuntimeError(failures[0].message)

        yield build


def fixed_cost(small: bool) -> list[Figure]:
    """One more single-worker model with warm workers: the workshop's time less that of the same model made bare."""
    count = 6 if small else 30
    records = noise_images(150, 8, 1)

    def models(first: int) -> list[ModelRecipe]:
        settings = training(2, 50, "fp32")
        return [recipe(records, "cnn", {}, settings, 150, first + number) for number in range(count)]

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(records, Store(folder))
        make(recipe(records, "cnn", {}, training(2, 50, "fp32"), 150, 9999), bench)
        alone = [seconds(lambda model=model: make(model, bench)) for model in models(0)]  # type: ignore[misc]
    with _workshop(records, 1) as build:
        build(*models(1000)[:3])
        through = [seconds(lambda model=model: build(model)) for model in models(0)]  # type: ignore[misc]
    cost = statistics.median(through) - statistics.median(alone)
    how = f"digits-sized models one after another, seconds each: workshop {spread(through)}; bare {spread(alone)}"
    return [Figure("fixed cost of one more single-worker model", cost, " s", ("<", 0.5), how)]


def two_workers(small: bool) -> list[Figure]:
    """Models per second of two pooled workers, to those of one."""
    count = 4 if small else 8
    records = noise_images(128 if small else 1024)
    settings = training(2 if small else 3, 64)
    times = {}
    for cpus in (1, 2):
        with _workshop(records, cpus) as build:
            build(*(recipe(records, "resnet18", {"width": 16}, settings, 64, 1000 + one) for one in range(2 * cpus)))
            models = [recipe(records, "resnet18", {"width": 16}, settings, len(records), one) for one in range(count)]
            times[cpus] = seconds(lambda made=models: build(*made))  # type: ignore[misc]
    how = f"{count} models (ResNet18 width 16): {times[1]:.1f} s with one worker, {times[2]:.1f} s with two"
    return [Figure("two pooled workers / one, models per second", times[1] / times[2], "×", (">=", 1.8), how)]


def references(small: bool) -> list[Figure]:
    """64 reference models of the digits' CNN by two pooled workers, to a bare loop on one core."""
    count, epochs = (4, 2) if small else (64, 40)
    records = noise_images(150, 8, 1)

    def models(first: int, number: int, epochs: int) -> list[ModelRecipe]:
        settings = training(epochs, 50, "fp32")
        return [recipe(records, "cnn", {}, settings, 150, first + one) for one in range(number)]

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(records, Store(folder))
        make(models(9999, 1, 2)[0], bench)
        each = [seconds(lambda model=model: make(model, bench)) for model in models(0, count, epochs)]  # type: ignore[misc]
    alone = sum(each)
    with _workshop(records, 2) as build:
        start = seconds(lambda: build(*models(9999, 4, 2)))
        together = seconds(lambda: build(*models(0, count, epochs)))
    how = (
        f"{count} models, seconds: one after another {alone:.1f}, by two workers {together:.1f}, after {start:.1f} "
        "for the workers to start and load torch"
    )
    what = "reference models a second, two workers / a bare loop on one core"
    return [Figure(what, alone / together, "×", (">=", 1.8), how)]


def nesting(small: bool) -> list[Figure]:
    """The naive way: a Ray Train worker group for each single-worker model."""
    from raymia.engine.group import build_in_group

    records = noise_images(150, 8, 1)
    settings = training(2, 50, "fp32")
    with tempfile.TemporaryDirectory() as folder, _ray(2, dashboard=True):
        shared = ray.put(records)
        models = [recipe(records, "cnn", {}, settings, 150, number) for number in range(2 if small else 3)]
        times = [
            seconds(lambda model=model: build_in_group(model, shared, Store(folder), _nobody))  # type: ignore[misc]
            for model in models
        ]
    how = f"the fixed cost's models, each through a TorchTrainer of one worker; all but the first: {spread(times[1:])}"
    return [Figure("a worker group for each model", statistics.median(times[1:]), " s", None, how)]


def _nobody(*progress: Any) -> None:
    """Nobody watches."""
