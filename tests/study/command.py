"""Running the command as a person does, small enough for a test, and looking at the processes it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "RAYMIA_TEST_RUN"
SECONDS = 400

TINY = (
    "plan.part_size=40",
    "plan.targets=2",
    "training.epochs=2",
    "model.options.widths=[4,8,8]",
    "attacks=[loss,entropy]",
)


def assignments(*texts: str) -> list[str]:
    """`--set` options."""
    return [part for text in texts for part in ("--set", text)]


def write_space(path: Path, *settings: str, more: str = "") -> Path:
    """A space file with these entries."""
    path.write_text(f"description: a test\n{more}settings:\n" + "".join(f"  - {one}\n" for one in settings))
    return path


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str


class Command:
    """A started command, in a process group of its own like a shell's foreground job."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        verb: str = "tune",
        script: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        # Sockets want a short path; and a Ray that runs here for somebody else is none of this run's business.
        self._scratch = tempfile.TemporaryDirectory(prefix="raymia-ray-", dir="/tmp", ignore_cleanup_errors=True)
        here = Path(sys.executable).parent
        program = [str(here / "raymia"), verb] if script else [sys.executable, "-m", f"raymia.{verb}"]
        dropped = ("PYTHONPATH", "RAY_ADDRESS", "COLUMNS")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        own = {"COLUMNS": "120", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": self._scratch.name, MARK: self.mark}
        path = {} if script else {"PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=folder,
            env={**kept, **own, **path, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Tests that a shell runs in the background ignore Ctrl-C, and so would their children.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def end(self) -> Outcome:
        """Wait for its end."""
        try:
            output, errors = self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            output, errors = self.process.communicate()
            raise AssertionError(f"no end after {SECONDS} s:\n{output}\n{errors}") from None
        self._scratch.cleanup()
        return Outcome(self.process.returncode, output, errors)

    def interrupt(self) -> Outcome:
        """Ctrl-C, which a terminal sends to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.end()

    def kill(self) -> None:
        """The driver alone, as by the kernel's memory killer."""
        self.process.kill()

    def wait_until(self, reached: Callable[[], Any]) -> Any:
        """Wait for a state of the run; fails when the run ends before."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if found := reached():
                return found
            if self.process.poll() is not None:
                raise AssertionError(f"ended before: {self.end()}")
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"never reached: {self.end()}")

    def processes(self) -> dict[int, str]:
        """Title by process id of every process of this run that is alive."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in environment and title:
                found[int(folder.name)] = title
        return found


def tune(arguments: Sequence[str], folder: Path, **options: Any) -> Outcome:
    """Run the command to its end. verb: another command than tune."""
    return Command(arguments, folder, **options).end()


def study_folder(results: Path) -> Path:
    """The folder of the only study."""
    [record] = results.glob("*/study.json")
    return record.parent


def record_of(results: Path) -> dict[str, Any]:
    """Its study.json."""
    content: dict[str, Any] = json.loads((study_folder(results) / "study.json").read_text())
    return content


def frontier(results: Path) -> bytes:
    """Its table."""
    return (study_folder(results) / "frontier.csv").read_bytes()


def artifacts(results: Path, kind: str) -> dict[str, int]:
    """Time of the last change (ns) of each artifact of a kind."""
    root = results / "artifacts"
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in sorted((root / kind).rglob("*"))
        if path.is_file()
    }


def flip(path: Path) -> None:
    """Damage a file: one bit in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


def words(text: str) -> str:
    """Text with its line breaks and runs of blanks made one blank: a table breaks its cells."""
    return re.sub(r"\s+", " ", text)
