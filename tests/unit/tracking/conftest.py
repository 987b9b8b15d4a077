"""Real MLflow databases and servers."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import opttune
from tests.support.searches import make_database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    make_database(tmp_path)
    return tmp_path / "mlflow.db"


@pytest.fixture
def uri(database: Path) -> str:
    return f"sqlite:///{database}"


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)


@pytest.fixture(scope="session")
def script_env() -> dict[str, str]:
    """The environment of a process that imports this very opttune, installed or not."""
    return {**os.environ, "PYTHONPATH": str(Path(opttune.__file__).parents[1])}


@dataclass
class MlflowServer:
    """A real `mlflow server` that can be killed and started again on the same port."""

    database: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def start(self) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.database.parent / "artifacts")]
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.database.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, cwd=self.database.parent, start_new_session=True
            )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError((self.database.parent / "server.log").read_text())

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def server(database: Path) -> Iterator[MlflowServer]:
    """A server that is not started yet."""
    server = MlflowServer(database, free_port())
    yield server
    server.kill()
