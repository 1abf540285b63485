"""`python -m tests.conformance.make_golden`: make the golden arrays and the scores expected of them anew.

Only where an attack joins or leaves: whoever checked a tool against the old files has to check it again. The arrays are
kept as files, since later versions of NumPy may draw other numbers from the same seed.
"""

from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from raymia.conformance.expected import expected_scores
from raymia.conformance.golden import ANSWERS, EXPECTED, MODEL, data_file, expected_csv

SEED = 20
RECORDS, POPULATION, MODELS, QUERIES, CLASSES, FEATURES = 60, 40, 16, 2, 5, 6
SURE, WRONG, TWINS = slice(0, 4), 4, (5, 6)

Floats = NDArray[np.float32]


def made_arrays(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Answers to 60 records, half of them members; of these four are answered so surely that float32 posteriors are 1,
    one surely and wrongly, and two the same. Of each record 8 references are IN and 8 OUT. The shadow has no
    non-member of class 4.
    """
    labels, shadow_labels, population_labels = (
        rng.integers(0, CLASSES, size) for size in (RECORDS, RECORDS, POPULATION)
    )
    member, shadow_member = (rng.permutation(np.arange(RECORDS) % 2 == 0) for _ in range(2))
    shadow_labels[~shadow_member & (shadow_labels == 4)] = 3
    halves = [rng.permutation(np.arange(RECORDS) < RECORDS // 2) for _ in range(MODELS // 2)]
    inside = np.concatenate([[half, ~half] for half in halves])
    hardness, strange = rng.normal(size=RECORDS), rng.normal(size=POPULATION)
    nobody = np.zeros(POPULATION, dtype=np.bool_)
    arrays: dict[str, NDArray[Any]] = {
        "target_logits": _scored_answers(rng, labels, member, hardness),
        "labels": labels,
        "member": member,
        "id": np.arange(1000, 1000 + RECORDS),
        "reference_logits": np.stack([_scored_answers(rng, labels, one, hardness) for one in inside]),
        "reference_member": inside,
        "shadow_logits": _answers(rng, shadow_labels, shadow_member, rng.normal(size=RECORDS)),
        "shadow_labels": shadow_labels,
        "shadow_member": shadow_member,
        "population_logits": _answers(rng, population_labels, nobody, strange),
        "population_labels": population_labels,
        "population_reference_logits": np.stack(
            [_answers(rng, population_labels, nobody, strange) for _ in range(MODELS)]
        ),
    }
    _twin(arrays)
    return arrays


def _answers(rng: np.random.Generator, labels: Any, member: Any, hardness: Any) -> Floats:
    logits = rng.normal(size=(len(labels), QUERIES, CLASSES))
    logits[np.arange(len(labels)), :, labels] += (1 + 1.5 * member - hardness)[:, None]
    return logits.astype(np.float32)


def _scored_answers(rng: np.random.Generator, labels: Any, member: Any, hardness: Any) -> Floats:
    logits = _answers(rng, labels, member, hardness)
    rows = np.arange(RECORDS)
    logits[rows[SURE], :, labels[SURE]] += np.float32(22)
    logits[WRONG, :, (labels[WRONG] + 1) % CLASSES] += np.float32(25)
    return logits


def _twin(arrays: dict[str, NDArray[Any]]) -> None:
    """Two records of the same class, with the same answers of every model; one is a member."""
    first, second = TWINS
    arrays["labels"][second] = arrays["labels"][first]
    arrays["target_logits"][second] = arrays["target_logits"][first]
    arrays["reference_logits"][:, second] = arrays["reference_logits"][:, first]
    arrays["reference_member"][:, second] = arrays["reference_member"][:, first]
    arrays["member"][[first, second]] = True, False


def made_model(rng: np.random.Generator, labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """A linear model and inputs."""
    return {
        "weights": rng.normal(size=(CLASSES, FEATURES)).astype(np.float32),
        "bias": rng.normal(size=CLASSES).astype(np.float32),
        "inputs": rng.normal(size=(RECORDS, FEATURES)).astype(np.float32),
        "labels": labels,
    }


@click.command()
def main() -> None:
    """Write raymia/conformance/golden*.npz and expected.csv."""
    rng = np.random.default_rng(SEED)
    arrays = made_arrays(rng)
    model = made_model(rng, arrays["labels"])
    np.savez_compressed(data_file(ANSWERS), **arrays)  # type: ignore[arg-type]
    np.savez_compressed(data_file(MODEL), **model)  # type: ignore[arg-type]
    scores = expected_scores(arrays, model)
    data_file(EXPECTED).write_text(expected_csv(arrays, scores), encoding="utf-8")
    click.echo(f"{len(scores)} attacks on {RECORDS} records")


if __name__ == "__main__":
    main()
