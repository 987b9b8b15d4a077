"""`StudyRun`: the MLflow parent run of a search, with a child for each trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from opttune.tracking.address import resolve_experiment
from opttune.tracking.machine import MachineMetrics
from opttune.tracking.operations import Point
from opttune.tracking.server import quiet_warnings
from opttune.tracking.thinning import Thinning
from opttune.tracking.trial_run import TrialRun
from opttune.tracking.writer import TrackingWriter

# a new database takes seconds to set up and must exist before workers write to it; a server answers soon or never
_SQLITE_SECONDS, _SERVER_SECONDS = 60.0, 10.0


class StudyRun:
    """The parent run of a search. Nothing here waits for MLflow or raises its errors.

    Args:
        writer: Writes to MLflow; closed with this run.
        key: Our key of the run, or MLflow's id of it.
        study_name: Name of the study.
        experiment: Name of the experiment.
        thins: Whether long curves of its trials are thinned.
        machine: Writes the machine's system metrics to the run; closed with this run.
        trains_here: Whether the trials run on that machine, so they also get its metrics.
    """

    def __init__(
        self,
        writer: TrackingWriter,
        key: str,
        study_name: str,
        experiment: str,
        *,
        thins: bool = True,
        machine: MachineMetrics | None = None,
        trains_here: bool = True,
    ) -> None:
        self.key = key
        self.writer = writer
        self.study_name = study_name
        self.experiment = experiment
        self._thins = thins
        self._machine = machine
        self._trains_here = trains_here
        self._datasets: list[dict[str, str]] = []
        if machine is not None:
            machine.watch(key)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, after a wait of some seconds; None until MLflow is reached."""
        return self.writer.find_run_id(self.key)

    def child(
        self,
        name: str,
        key: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        thinning: Thinning | None = None,
    ) -> TrialRun:
        """Make the run of one training, under this one.

        Args:
            name: The run's name.
            key: Key or MLflow id of the training's earlier run, which is continued; None makes a new one.
            tags: Its tags; `opttune.role` is the role of the training.
            thinning: Chooses the steps of a curve to keep; None keeps all.
        """
        key = key or uuid4().hex
        self._open(key, name, tags or {})
        if self._datasets:
            self.writer.datasets(key, self._datasets)
        machine = self._machine if self._trains_here else None
        return TrialRun(self.writer, key, thinning if self._thins else None, machine=machine)

    def _open(self, key: str, name: str, tags: Mapping[str, str]) -> None:
        tags = {**tags, "opttune.study": self.study_name}
        self.writer.open_run(key, name, experiment=self.experiment, tags=tags, parent=self.key)

    def params(self, params: Mapping[str, object]) -> None:
        """Write params."""
        self.writer.params(self.key, params)

    def tags(self, tags: Mapping[str, object]) -> None:
        """Write tags."""
        self.writer.tags(self.key, tags)

    def metrics(self, points: Sequence[Point]) -> None:
        """Write points: (name, value, step, time in milliseconds)."""
        self.writer.metrics(self.key, points)

    def datasets(self, datasets: Sequence[dict[str, str]]) -> None:
        """Write the datasets of the search; trials that are made later get them too.

        Args:
            datasets: The arguments of MLflow's `Dataset` for each, and its purpose as `context`.
        """
        self._datasets = list(datasets)
        self.writer.datasets(self.key, self._datasets)

    def note(self, markdown: str) -> None:
        """Write the note that MLflow shows on the run's page."""
        self.writer.tags(self.key, {"mlflow.note.content": markdown})

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Write a file, which must stay until it is delivered, as an artifact."""
        self.writer.artifact(self.key, path, folder)

    def text(self, text: str, file_name: str) -> None:
        """Write a text as an artifact of that name."""
        self.writer.text(self.key, text, file_name)

    def end(self, status: str = "FINISHED") -> None:
        """Set the final status: FINISHED, KILLED or FAILED."""
        if self._machine is not None:
            self._machine.close()
        self.writer.end_run(self.key, status)

    def flush(self, timeout_seconds: float = 30.0) -> bool:
        """Wait until everything written so far is delivered; return whether it is."""
        return self.writer.flush(timeout_seconds)

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Deliver the waiting data for at most `timeout_seconds`, and stop; `writer.problem` names undelivered data."""
        self.writer.close(timeout_seconds)


def open_study_run(
    *,
    tracking_uri: str,
    study_name: str,
    spool_dir: Path,
    run_id: str | None,
    experiment: str | None = None,
    thins: bool = True,
    reads_machine: bool = False,
    trains_here: bool = True,
) -> StudyRun:
    """Create or continue the parent run of a study.

    If MLflow cannot be reached, the search continues without it: everything waits in the spool under a key that is
    made here, and the run is created as soon as MLflow answers.

    Args:
        tracking_uri: Address of MLflow.
        study_name: The study's name, and the run's.
        spool_dir: Folder of the spool; entries of an earlier search are delivered first.
        run_id: Id or key (`StudyRun.key`) of the study's earlier run, which is set running again; a deleted one is
            created again.
        experiment: The experiment's name; None takes `MLFLOW_EXPERIMENT_NAME`, else `opttune`.
        thins: Whether long curves of its trials are thinned.
        reads_machine: Whether this machine's system metrics are written to the run.
        trains_here: Whether the trials run on this machine, so they also get its metrics.
    """
    key = run_id or uuid4().hex
    experiment = resolve_experiment(experiment)
    wait = _SQLITE_SECONDS if tracking_uri.startswith("sqlite:") else _SERVER_SECONDS
    with quiet_warnings():
        writer = TrackingWriter(tracking_uri, spool_dir)
        machine = MachineMetrics(writer) if reads_machine else None
        run = StudyRun(writer, key, study_name, experiment, thins=thins, machine=machine, trains_here=trains_here)
        tags = {"opttune.role": "study", "opttune.study": study_name}
        writer.open_run(key, study_name, experiment=experiment, tags=tags, reopen=run_id is not None)
        writer.find_run_id(key, wait)
    return run


def sync(tracking_uri: str, spool_dir: Path, timeout_seconds: float = 600.0) -> TrackingWriter:
    """Deliver the data of earlier searches in a spool, and return the closed writer: `undelivered`, `problem`."""
    with quiet_warnings():
        writer = TrackingWriter(tracking_uri, spool_dir)
        writer.close(timeout_seconds)
    return writer
