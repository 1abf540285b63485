"""Where `verify` looks for a study."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from raymia.commands import guarded
from raymia.verify import verify


@pytest.mark.parametrize("shared", [False, True])
def test_the_study_is_looked_for_where_its_pages_are(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With results in a bucket, what people read of a study is in `results` here."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "half"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"status": "interrupted"}))
    results = (tmp_path / "bucket").as_uri() if shared else "results"
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = guarded(lambda: verify.main(["half", "--results", results], standalone_mode=False))
    assert code == 2
    assert errors.getvalue() == (
        "raymia: results/half: the study is not complete; finish it with the command that began it\n"
    )
    assert not (tmp_path / "bucket").exists()
