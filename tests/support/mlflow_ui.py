"""A real MLflow server and a headless Chromium, for tests that look at what a person would see."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")

_CHROMIUM_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(uri: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 120) -> None:
    """Waits for an MLflow server's /health; fails with the server's log when it dies or stays silent."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{uri}/health", timeout=5) as answer,
        ):
            if answer.read() == b"OK":
                return
        time.sleep(0.2)
    raise AssertionError(f"no MLflow server at {uri}:\n{log.read_text()}")


class MLflowServer:
    """`mlflow server` on the loopback interface over an SQLite database in `folder`; stays the same over restarts."""

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._database = database or folder / "server.db"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "MLflowServer":
        """Returns when the server answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._database}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "server-artifacts")]
        log = self.folder / "server.log"
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=os.environ | quiet,
                cwd=self.folder,
                start_new_session=True,
            )
        wait_until_healthy(self.uri, self._process, log)
        return self

    def kill(self) -> None:
        """SIGKILL to the server and its workers; nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends the server if it runs."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(15)
        self._process = None


@contextlib.contextmanager
def mlflow_server(folder: Path, database: Path | None = None) -> Iterator[MLflowServer]:
    """A running server, ended with the block. `database`: serve this one, as `mlflow ui` does."""
    server = MLflowServer(folder, database)
    try:
        yield server.start()
    finally:
        server.stop()


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A selenium driver of Debian's Chromium with a fresh profile in `folder`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*_CHROMIUM_FLAGS, f"--user-data-dir={folder / 'chromium-profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def wait_for_text(driver: Any, *wanted: str, seconds: float = 60) -> str:
    """The page's visible text once it holds all of `wanted`; fails with what is missing and what is shown."""
    deadline = time.monotonic() + seconds
    text = ""
    while time.monotonic() < deadline:
        text = driver.execute_script("return document.body ? document.body.innerText : ''")
        if all(words in text for words in wanted):
            return text
        time.sleep(0.3)
    missing = [words for words in wanted if words not in text]
    raise AssertionError(f"{missing} not on {driver.current_url}, which shows:\n{text}")


def show_child_runs(driver: Any) -> None:
    """Unfolds every parent run of the runs table."""
    for button in driver.find_elements("css selector", "button[data-component-id*='runnamecellrenderer']"):
        button.click()
