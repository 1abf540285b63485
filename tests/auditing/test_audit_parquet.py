"""The same audit by Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymia.auditing.parquet import read_parquet
from raymia.errors import InputError
from tests.auditing.given import Arrays, of_confidences, run, verdict, whole, write


def table_of(arrays: Arrays) -> pa.Table:
    """The arrays as rows, roles mixed."""
    rows: list[dict[str, Any]] = [
        {
            "role": "target",
            "id": f"record {number}",
            "logits": arrays["target_logits"][number].tolist(),
            "label": int(arrays["labels"][number]),
            "member": bool(arrays["member"][number]),
            "reference_logits": arrays["reference_logits"][:, number].tolist(),
            "reference_member": arrays["reference_member"][:, number].tolist(),
        }
        for number in range(len(arrays["labels"]))
    ]
    for number, label in enumerate(arrays["shadow_labels"].tolist()):
        logits, member = arrays["shadow_logits"][number].tolist(), bool(arrays["shadow_member"][number])
        rows.insert(2 * number, {"role": "shadow", "logits": logits, "label": label, "member": member})
    for number, label in enumerate(arrays["population_labels"].tolist()):
        logits = arrays["population_logits"][number].tolist()
        references = arrays["population_reference_logits"][:, number].tolist()
        rows.append({"role": "population", "logits": logits, "label": label, "reference_logits": references})
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def test_parquet_and_npz_are_the_same_arrays() -> None:
    arrays = whole(records=30)
    pq.write_table(table_of(arrays), "a.parquet", row_group_size=17)
    found = read_parquet(Path("a.parquet"))
    assert found.keys() == {*arrays, "id"}
    for name, array in arrays.items():
        assert np.array_equal(found[name][:], array)
    assert found["id"][:].tolist() == [f"record {number}" for number in range(30)]


def test_parquet_and_npz_give_the_same_verdict_and_ids_name_the_scores() -> None:
    arrays = whole(records=30)
    pq.write_table(table_of(arrays), "a.parquet")
    attacks = ("--attacks", "loss,rmia,lira_offline,loss_per_class")
    assert run("--signals", "a.parquet", *attacks, "--scores", "a_scores.parquet")[0] == 0
    by_parquet = verdict()
    assert run("--signals", write(arrays), *attacks, "--scores", "b_scores.parquet")[0] == 0
    assert by_parquet["attacks"] == verdict()["attacks"]
    a, b = pq.read_table("a_scores.parquet"), pq.read_table("b_scores.parquet")
    assert a["id"].to_pylist() == [f"record {number}" for number in range(30)]
    assert a.drop(["id"]).equals(b.drop(["id"]))


def test_a_column_for_each_class() -> None:
    arrays = of_confidences([3, 1], [2, 0])
    logits = arrays["target_logits"]
    columns = {
        "logits_1": logits[:, 1],
        "logits_0": logits[:, 0],
        "label": arrays["labels"],
        "member": arrays["member"],
    }
    pq.write_table(pa.table(columns), "a.parquet")
    assert np.array_equal(read_parquet(Path("a.parquet"))["target_logits"][:], logits)


GOOD: dict[str, list[Any]] = {"logits": [[1.0, 2.0], [0.5, 0.1]], "label": [0, 1], "member": [True, False]}
BAD: dict[str, tuple[dict[str, list[Any]], str]] = {
    "no logits": ({"label": [0, 1], "member": [True, False]}, "give the logits as one column 'logits' of lists, or as"),
    "gap": ({"logits_0": [1.0], "logits_2": [1.0], "label": [0], "member": [True]}, "logits_1, … without a gap"),
    "both": (GOOD | {"logits_0": [1.0, 2.0]}, "give the logits as one column"),
    "no label": ({"logits": GOOD["logits"], "member": GOOD["member"]}, "it has no column 'label' (its columns: "),
    "no member": ({"logits": GOOD["logits"], "label": GOOD["label"]}, "it has no column 'member'"),
    "unknown": (
        GOOD | {"reference_logit": [1, 2]},
        "unknown column 'reference_logit': did you mean 'reference_logits'?",
    ),
    "ragged": (GOOD | {"logits": [[1.0, 2.0], [1.0]]}, "column 'logits' has lists of different lengths"),
    "missing list": (GOOD | {"logits": [[1.0, 2.0], None]}, "column 'logits' has lists of different lengths"),
    "missing label": (GOOD | {"label": [0, None]}, "column 'label' has missing values: fill them"),
    "role": (GOOD | {"role": ["target", "shadwo"]}, "role 'shadwo' is none of target, shadow, population"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_named(case: str) -> None:
    columns, expected = BAD[case]
    pq.write_table(pa.table(columns), "a.parquet")
    with pytest.raises(InputError) as caught:
        read_parquet(Path("a.parquet"))
    assert str(caught.value).startswith("a.parquet: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_some_rows_lack_are_refused_however_they_fall_into_batches() -> None:
    ids = [number if number < 1024 else None for number in range(1500)]
    columns = {"logits": [[1.0, 2.0]] * 1500, "label": [0] * 1500, "member": [True] * 1500, "id": ids}
    pq.write_table(pa.table(columns), "a.parquet")
    with pytest.raises(InputError, match="id are given for some rows only"):
        read_parquet(Path("a.parquet"))


def test_a_file_that_is_no_parquet() -> None:
    Path("a.parquet").write_bytes(b"PAR1 and nothing more")
    code, _, errors = run("--signals", "a.parquet")
    assert (code, errors.count("\n")) == (2, 1)
    assert "a.parquet: is no readable Parquet file" in errors
