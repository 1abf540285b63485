"""`python -m benchmarks [NAME…]`: run them one after another, print their figures, exit 1 where a target is missed."""

import functools
import os
import sys
from collections.abc import Callable

import click

from benchmarks import adversarial, attacks, memory, pool, samplers, study, synthesis, throughput
from benchmarks.figure import Figure, seconds

# A Ray of the benchmarks neither writes a token into the home folder nor expects one there.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def benchmarks(cifar10: str | None) -> dict[str, Callable[[bool], list[Figure]]]:
    """Every benchmark by name."""
    return {
        "loop": throughput.same_settings,
        "default": throughput.default_settings,
        "adversarial": adversarial.steps_of_training,
        "model": pool.fixed_cost,
        "pool": pool.two_workers,
        "references": pool.references,
        "nesting": pool.nesting,
        "memory": functools.partial(memory.quad, cifar10=cifar10),
        "stream": synthesis.stream_memory,
        "sampler": synthesis.sampler_speed,
        "cas": samplers.equal_teachers,
        "lira": attacks.lira,
        "rmia": attacks.rmia,
        "tune": study.main_job,
    }


@click.command(help=f"Measure raymia beside plain baselines. NAMES: {', '.join(benchmarks(None))} (all of them).")
@click.argument("names", nargs=-1, type=click.Choice(list(benchmarks(None))))
@click.option("--cifar10", type=click.Path(exists=True), help="CIFAR-10 as Parquet, for memory (else random images).")
@click.option("--small", is_flag=True, help="Tiny sizes: whether it runs, not how fast.")
def main(names: tuple[str, ...], cifar10: str | None, small: bool) -> None:
    """See the module."""
    known = benchmarks(cifar10)
    load = os.getloadavg()[0]
    click.echo(f"{os.cpu_count()} CPUs, load {load:.1f}" + ("  (not quiet: trust only ratios)" if load > 0.5 else ""))
    missed = False
    for name in names or known:
        figures: list[Figure] = []
        spent = seconds(lambda one=known[name], into=figures: into.extend(one(small)))  # type: ignore[misc]
        click.echo(f"[{name}, {spent:.0f} s]")
        for figure in figures:
            click.echo(f"  {figure.line()}")
            missed |= figure.met is False
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
