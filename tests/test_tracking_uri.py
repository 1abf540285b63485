"""Which tracking addresses are taken, and what is said of the others."""

from pathlib import Path

import pytest

from raymia.errors import InputError
from raymia.tracking import check_tracking_uri, default_tracking_uri


def test_the_default_address_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri(Path("results")) == f"sqlite:///{tmp_path}/results/mlflow.db"
    check_tracking_uri(default_tracking_uri(Path("results")), nodes=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "nodes", "remedy"),
    [
        ("file:///tmp/mlruns", 1, "sqlite:///PATH.db"),
        ("./mlruns", 1, "sqlite:///PATH.db"),
        ("", 1, "sqlite:///PATH.db"),
        ("sqlite://", 1, "sqlite:///PATH.db"),
        ("sqlite:///", 1, "sqlite:///PATH.db"),
        ("postgresql://me:secret@host/db", 1, "MLflow server"),
        ("sqlite:///results/mlflow.db", 2, "--tracking-uri http://HOST:5000"),
        ("http://", 1, "http://HOST:PORT"),
        ("sqlite:////tmp/100%/mlflow.db", 1, "rename it"),
        ("sqlite:///{tmp}", 1, "is a folder"),
        ("sqlite:///{tmp}/text", 1, "not an SQLite database"),
        ("sqlite:///{tmp}/text/mlflow.db", 1, "cannot be written"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_the_remedy(
    address: str, nodes: int, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("not a database, just text")
    with pytest.raises(InputError) as caught:
        check_tracking_uri(address.format(tmp=tmp_path), nodes)
    message = str(caught.value)
    assert message.startswith("--tracking-uri: ")
    assert remedy in message
    assert "\n" not in message
    assert "secret" not in message
