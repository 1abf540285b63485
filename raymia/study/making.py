"""Artifacts made on a running cluster outside a search, under the live view."""

import time
from collections.abc import Sequence

from rich.console import Console

from raymia.errors import RunError
from raymia.recipes.blueprint import models
from raymia.recipes.recipe import Recipe, ready
from raymia.records import Records
from raymia.report.live import LiveView, Progress
from raymia.report.time_left import TimeLeft
from raymia.store import Inspection, Store

_LOOK_SECONDS = 0.5


def present_models(recipes: Sequence[Recipe], store: Store) -> tuple[int, int]:
    """How many models the recipes need, and how many of these are there and undamaged."""
    wanted = models(recipes)
    return len(wanted), sum(ready(model, store, Inspection()) for model in wanted)


def make_all(recipes: Sequence[Recipe], records: Records, store: Store, console: Console, quiet: bool) -> list[str]:
    """Have the recipes made, and all they need. quiet: without the view.

    Returns the names of damaged artifacts that were made again. Raises RunError with the first failure's reason, once
    all that could be made is.
    """
    # Ray reads its environment when it is loaded: only once the cluster is there is that set.
    import ray

    from raymia.engine.workshop import open_workshop
    from raymia.study.run import running

    total, there = present_models(recipes, store)
    workshop = open_workshop(ray.put(records), store)
    left = TimeLeft(total - there)
    making = [workshop.make.remote(recipe) for recipe in recipes]
    with LiveView(console, quiet) as view:
        while len(ray.wait(making, num_returns=len(making), timeout=_LOOK_SECONDS)[0]) < len(making):
            tally = ray.get(workshop.tally.remote())
            built = tally.models(tally.built)
            view.update(
                Progress(
                    settings_done=0,
                    settings_total=0,
                    models_done=there + built,
                    models_total=total,
                    models_reused=there,
                    running=running(tally),
                    best=None,
                    eta_seconds=left.look(time.monotonic(), built),
                    failures=0,
                )
            )
    failures = [failure for failure in ray.get(making) if failure is not None]
    if failures:
        raise RunError(failures[0].message)
    damaged: list[str] = ray.get(workshop.tally.remote()).damaged
    return list(dict.fromkeys(damaged))
