"""`Server`: one MLflow server or database, with functions that MLflow's client lacks.

Nothing here is global: it sets no tracking URI, no active run and no autologging.
"""

import logging
import os
import re
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock
from mlflow.entities import Experiment, LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from opttune.tracking.address import artifact_folder, database_path

KEY_TAG = "opttune.key"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
_PROBE_SECONDS = 3.0
_SET_UP_SECONDS = 60.0
_NO_LINKS = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
_TALKATIVE = ("mlflow", "alembic", "urllib3.connectionpool")


class Server:
    """One MLflow tracking server or database.

    Args:
        tracking_uri: Its address.
        client: Client to use; None makes one at the first call, which may create the database.
    """

    def __init__(self, tracking_uri: str, client: MlflowClient | None = None) -> None:
        self.tracking_uri = tracking_uri
        self._client = client

    @property
    def client(self) -> MlflowClient:
        """MLflow's client; the first use connects."""
        if self._client is None:
            path = database_path(self.tracking_uri)
            with _sole_set_up(path) if path else nullcontext():
                client = MlflowClient(tracking_uri=self.tracking_uri)
                if path:
                    client.search_experiments(max_results=1)
            self._client = client
        return self._client

    def check(self) -> None:
        """Raise an error if a tracking server does not answer.

        MLflow's calls retry a dead server for minutes. This check costs one round trip and fails at once.
        """
        if self.tracking_uri.startswith("http"):
            how = {"max_retries": 0, "timeout": _PROBE_SECONDS, "raise_on_status": False}
            credentials = get_default_host_creds(self.tracking_uri)  # type: ignore[no-untyped-call]
            reply = http_request(credentials, "/health", "GET", **how)  # type: ignore[no-untyped-call]
            if reply.status_code >= 500:
                raise ConnectionError(f"{self.tracking_uri} answers with status {reply.status_code}")

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment; create or restore it if necessary."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._create_experiment(name)
            except MlflowException as err:
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise err
        if found.lifecycle_stage == LifecycleStage.DELETED:
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _create_experiment(self, name: str) -> str:
        folder = artifact_folder(self.tracking_uri)
        location = (folder / re.sub(r"[^\w.-]", "_", name)).as_uri() if folder else None
        # without this tag, MLflow's pages treat it as an experiment with language models
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, artifact_location=location, tags=tags))

    def find_run(self, key: str, experiment_id: str | None = None) -> Run | None:
        """Find a run by its id, else by its `opttune.key` tag; None if there is none or it is deleted."""
        try:
            run = self.client.get_run(key)
            if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
                return run
        except MlflowException as err:
            if not is_refusal(err):
                raise
        ids = [experiment_id] if experiment_id else [each.experiment_id for each in self._experiments()]
        runs = self.client.search_runs(ids, filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        return runs[0] if runs else None

    def _experiments(self) -> list[Experiment]:
        return list(self.client.search_experiments())

    def set_running(self, run_id: str) -> None:
        """Set an ended run running again."""
        self.client.update_run(run_id, status="RUNNING")

    def set_ended(self, run_id: str, status: str, end_time_ms: int) -> None:
        """Set a run's final status."""
        with _no_links():
            self.client.set_terminated(run_id, status, end_time_ms)


@contextmanager
def _no_links() -> Iterator[None]:
    """Keep MLflow from printing links to standard output, which belongs to the result."""
    before = os.environ.get(_NO_LINKS)
    os.environ[_NO_LINKS] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_LINKS]
        else:
            os.environ[_NO_LINKS] = before


@contextmanager
def _sole_set_up(path: Path) -> Iterator[None]:
    """Let one process at a time open a database: two that set it up at once leave it half migrated and broken."""
    # fail at once here: MLflow would try for minutes to open a path that cannot be opened
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version")
    name = sha256(str(path.absolute()).encode()).hexdigest()[:16]
    with FileLock(Path(gettempdir()) / f"opttune-{name}.lock", timeout=_SET_UP_SECONDS):
        yield


def is_refusal(err: Exception) -> bool:
    """Whether MLflow will refuse it on every try; every other error counts as an outage."""
    if isinstance(err, MlflowException):
        return err.error_code in _REFUSALS
    if isinstance(err, OSError):
        return isinstance(err, FileNotFoundError)
    return isinstance(err, TypeError | ValueError | LookupError | AttributeError | ImportError)


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Suppress the warnings of MLflow's libraries while a database is set up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def quiet_thread() -> Iterator[None]:
    """Suppress what MLflow logs in this thread (migrations, retries); other threads are not affected."""
    thread = threading.get_ident()

    def from_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    with ExitStack() as stack:
        for logger in map(logging.getLogger, _TALKATIVE):
            for place in (logger, *logger.handlers):
                place.addFilter(from_another_thread)
                stack.callback(place.removeFilter, from_another_thread)
        yield
