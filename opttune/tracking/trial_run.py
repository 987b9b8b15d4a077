"""`TrialRun`: writes one trial to its MLflow run."""

import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.tracking import MlflowClient

from opttune.outcome import Outcome, StopReason
from opttune.tracking.machine import MachineMetrics
from opttune.tracking.operations import Point
from opttune.tracking.thinning import Thinning
from opttune.tracking.writer import TrackingWriter

_STATES = {
    StopReason.COMPLETED: ("complete", "FINISHED"),
    StopReason.EARLY_STOPPED: ("complete", "FINISHED"),
    StopReason.NON_FINITE: ("diverged", "KILLED"),
    StopReason.BLOW_UP: ("diverged", "KILLED"),
    StopReason.STALL: ("stalled", "KILLED"),
    StopReason.PAUSED: ("paused", "KILLED"),
    StopReason.OUTRANKED: ("pruned", "KILLED"),
    StopReason.PRUNED: ("pruned", "KILLED"),
    StopReason.OUT_OF_MEMORY: ("out_of_memory", "KILLED"),
    StopReason.FAILED: ("failed", "FAILED"),
    StopReason.INTERRUPTED: ("interrupted", "KILLED"),
}
"""Reason -> tag `opttune.state`, MLflow's status. MLflow shows KILLED and FAILED alike; the tag tells them apart."""


class TrialRun:
    """One trial's run in MLflow. Nothing here waits for MLflow or raises its errors.

    Args:
        writer: Writes to MLflow.
        key: Our key of the run, or MLflow's id of it.
        thinning: Chooses the steps of a curve to keep; None keeps all.
        run_id: MLflow's id, if it is already known.
        machine: Writes the machine's system metrics during the trial; None for none.
    """

    def __init__(
        self,
        writer: TrackingWriter,
        key: str,
        thinning: Thinning | None = None,
        run_id: str | None = None,
        machine: MachineMetrics | None = None,
    ) -> None:
        self.key = key
        self.writer = writer
        self._run_id = run_id
        self._machine = machine
        self._thinning = thinning or Thinning(None)
        self._passed_over: list[Point] = []

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, after a wait of some seconds; None until MLflow is reached."""
        return self._run_id or self.writer.find_run_id(self.key)

    def params(self, params: Mapping[str, object]) -> None:
        """Write params, such as `recipe.flat()`; None is written as the text `None`."""
        self.writer.params(self.key, params)

    def tags(self, tags: Mapping[str, object]) -> None:
        """Write tags."""
        self.writer.tags(self.key, tags)

    def log(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Write one point of each curve; cheap enough for every optimizer step.

        Args:
            step: Optimizer steps done.
            values: Metric -> value; NaN is allowed.
            always: Whether to write the point regardless of thinning, for example for validation metrics.
        """
        now = time.time_ns() // 1_000_000
        points: list[Point] = [(name, value, step, now) for name, value in values.items()]
        if always or self._thinning.keep(step):
            self.writer.metrics(self.key, points)
            self._passed_over = [] if not always else self._passed_over
        else:
            self._passed_over = points

    def training_begins(self) -> None:
        """Start writing the machine's system metrics, if requested."""
        if self._machine is not None:
            self._machine.watch(self.key)

    def training_ends(self) -> None:
        """Stop writing the machine's system metrics."""
        if self._machine is not None:
            self._machine.leave(self.key)

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Write a file, which must stay until it is delivered, as an artifact."""
        self.writer.artifact(self.key, path, folder)

    def text(self, text: str, file_name: str) -> None:
        """Write a text as an artifact of that name."""
        self.writer.text(self.key, text, file_name)

    def end(self, outcome: Outcome, state: str | None = None) -> None:
        """Write the end of the trial, and set the run's final status.

        Args:
            outcome: The training's outcome.
            state: Tag `opttune.state`; None takes it from the outcome's reason.
        """
        self.training_ends()
        own_state, status = _STATES[outcome.reason]
        if self._passed_over:
            # the last step of a run that stopped early, which thinning could not know
            self.writer.metrics(self.key, self._passed_over)
            self._passed_over = []
        if outcome.value is not None and outcome.reason.counts:
            self.log(outcome.optimizer_steps, {"objective": outcome.value}, always=True)
        tags = {
            "opttune.state": state or own_state,
            "opttune.reason": str(outcome.reason),
            "opttune.steps": str(outcome.optimizer_steps),
        }
        if outcome.message:
            tags["opttune.message"] = outcome.message
        if outcome.alarms:
            tags["opttune.alarms"] = outcome.alarms
        if outcome.reason is not StopReason.COMPLETED:
            tags["opttune.stopped_at_step"] = str(outcome.optimizer_steps)
        self.writer.tags(self.key, tags)
        if outcome.groups:
            self.writer.text(self.key, outcome.groups, "groups.md")
        if outcome.traceback:
            self.writer.text(self.key, outcome.traceback, "traceback.txt")
        self.writer.end_run(self.key, status)

    def reopen(self) -> None:
        """Set the ended run running again and remove the tags of its end; existing steps are not written twice."""
        self.writer.reopen_run(self.key)

    def close(self) -> None:
        """Close the writer of an attached run; the study closes that of a child run."""
        if self._run_id is not None:
            self.writer.close()


def attach_trial_run(
    client: MlflowClient, run_id: str, *, thinning: Thinning | None = None, spool_dir: Path | None = None
) -> TrialRun:
    """Write into the existing run of the user's own MLFlowLogger.

    A param that exists with another value cannot change; opttune's value is then written as `opttune/<name>`.

    Args:
        client: The client that made the run.
        run_id: MLflow's id of the run.
        thinning: Chooses the steps of a curve to keep; None keeps all.
        spool_dir: Folder of the spool; None keeps it in memory.

    Returns:
        The trial's run; close it with `close()`.
    """
    writer = TrackingWriter(client.tracking_uri, spool_dir, client=client)
    return TrialRun(writer, run_id, thinning, run_id=run_id)
