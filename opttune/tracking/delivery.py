"""`Delivery`: sends operations to MLflow.

Every operation may be delivered twice without harm, and the spool relies on it. The primary key of a metric in
MLflow's store is (run, key, timestamp, step, value, is_nan), and a point that exists is skipped. Writing a param or
tag again changes nothing. Before a run is created, it is searched for by its tag `opttune.key`.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from opttune.tracking.operations import SYSTEM_PREFIX, Kind, Operation
from opttune.tracking.server import KEY_TAG, Server, is_refusal

_Entry = Metric | Param | RunTag

# MLflow accepts 1,000 entries per call, at most 100 of them params and 100 tags, in at most 1 MB
_MOST_METRICS, _MOST_TEXTS = 800, 50
_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_NAME = 6000, 8000, 250
_ARTIFACT_TRIES = 3
_OPEN_TRIES = 3

END_TAGS = ("opttune.state", "opttune.reason", "opttune.message", "opttune.stopped_at_step", "opttune.steps")


class Delivery:
    """Sends operations to MLflow in batches.

    Args:
        server: The MLflow server or database.
        on_run: Called with a run's key and MLflow's id as soon as the run is known.

    Attributes:
        refused: Number of entries that MLflow will never accept.
        refusal: MLflow's error for the last of them; empty if there is none.
    """

    def __init__(self, server: Server, on_run: Callable[[str, str], None]) -> None:
        self.refused = 0
        self.refusal = ""
        self._server = server
        self._on_run = on_run
        self._run_ids: dict[str, str | None] = {}
        self._last_steps: dict[str, dict[str, int]] = {}
        self._are_left = False

    def deliver(self, operations: Iterable[Operation], attempt: int = 1, *, are_left: bool = False) -> None:
        """Deliver all operations; those of one run keep their order.

        Args:
            operations: What to deliver.
            attempt: How often these were tried, including this time.
            are_left: Whether an earlier process left them; then this one does not know which steps were written.

        Raises:
            Exception: MLflow cannot be reached or fails; all of the operations must be tried again.
        """
        refused_before = self.refused
        self._are_left = are_left
        try:
            self._server.check()
            self._deliver(operations, attempt)
        except Exception:
            self.refused = refused_before
            raise

    def _deliver(self, operations: Iterable[Operation], attempt: int) -> None:
        batches: dict[str, list[_Entry]] = {}
        for operation in operations:
            if operation.kind.is_batched:
                batches.setdefault(operation.run, []).extend(self._entries(operation))
            else:
                self._log(operation.run, batches.pop(operation.run, []))
                self._apply(operation, attempt)
        for run, entries in batches.items():
            self._log(run, entries)

    def _apply(self, operation: Operation, attempt: int) -> None:
        try:
            if operation.kind is Kind.OPEN:
                self._open(operation)
            elif run_id := self._run_id(operation.run):
                self._act(operation, run_id)
            else:
                self._refuse(f"there is no run {operation.run}")
        except Exception as err:
            is_artifact = operation.kind in (Kind.ARTIFACT, Kind.TEXT)
            # the artifact store may be down, or lack a library, while MLflow itself works
            give_up = is_refusal(err) or (is_artifact and attempt >= _ARTIFACT_TRIES)
            # without its run everything else is lost: a refusal counts only when it is repeated
            if not give_up or (operation.kind is Kind.OPEN and attempt < _OPEN_TRIES):
                raise
            self._refuse(str(err))

    def _act(self, operation: Operation, run_id: str) -> None:
        client, data = self._server.client, operation.data
        if operation.kind is Kind.END:
            self._server.set_ended(run_id, data["status"], data["time"])
        elif operation.kind is Kind.REOPEN:
            self._reopen(run_id)
        elif operation.kind is Kind.ARTIFACT:
            if Path(data["path"]).is_dir():
                client.log_artifacts(run_id, data["path"], data["folder"])
            else:
                client.log_artifact(run_id, data["path"], data["folder"])
        elif operation.kind is Kind.TEXT:
            client.log_text(run_id, data["text"], data["name"])
        elif operation.kind is Kind.DATASETS:
            client.log_inputs(run_id, datasets=[_dataset(each) for each in data])

    def _open(self, operation: Operation) -> None:
        data = operation.data
        experiment_id = self._server.experiment_id(data["experiment"])
        run = self._server.find_run(operation.run, experiment_id)
        if run is None:
            tags = {**data["tags"], KEY_TAG: operation.run}
            if parent := data["parent"] and self._run_id(data["parent"]):
                tags["mlflow.parentRunId"] = parent
            run = self._server.client.create_run(
                experiment_id, start_time=data["time"], tags=tags, run_name=data["name"]
            )
        elif data["reopen"]:
            self._reopen(run.info.run_id)
        self._learn(operation.run, run.info.run_id)

    def _reopen(self, run_id: str) -> None:
        client = self._server.client
        run = client.get_run(run_id)
        self._server.set_running(run_id)
        for tag in END_TAGS:
            if tag in run.data.tags:
                client.delete_tag(run_id, tag)
        # a training that resumes from a checkpoint repeats steps that were logged before the interruption
        self._last_steps[run_id] = self._read_last_steps(run)

    def _read_last_steps(self, run: Run) -> dict[str, int]:
        history = self._server.client.get_metric_history
        return {
            name: max((point.step for point in history(run.info.run_id, name)), default=0) for name in run.data.metrics
        }

    def _run_id(self, run: str) -> str | None:
        if run not in self._run_ids:
            found = self._server.find_run(run)
            if found is None:
                self._run_ids[run] = None
            else:
                self._learn(run, found.info.run_id)
        return self._run_ids[run]

    def _learn(self, run: str, run_id: str) -> None:
        self._run_ids[run] = run_id
        self._on_run(run, run_id)

    def _log(self, run: str, entries: list[_Entry]) -> None:
        if not entries:
            return
        run_id = self._run_id(run)
        if run_id is None:
            self._refuse(f"there is no run {run}", len(entries))
            return
        if self._are_left and run_id not in self._last_steps:
            self._last_steps[run_id] = self._read_last_steps(self._server.client.get_run(run_id))
        last = self._last_steps.get(run_id, {})
        metrics = [each for each in entries if isinstance(each, Metric) and _is_new(each, last)]
        params = list({each.key: each for each in entries if isinstance(each, Param)}.values())
        tags = list({each.key: each for each in entries if isinstance(each, RunTag)}.values())
        while metrics or params or tags:
            head: list[_Entry] = [*metrics[:_MOST_METRICS], *params[:_MOST_TEXTS], *tags[:_MOST_TEXTS]]
            self._log_batch(run_id, head)
            metrics, params, tags = metrics[_MOST_METRICS:], params[_MOST_TEXTS:], tags[_MOST_TEXTS:]

    def _log_batch(self, run_id: str, entries: Sequence[_Entry]) -> None:
        try:
            self._server.client.log_batch(
                run_id,
                metrics=[each for each in entries if isinstance(each, Metric)],
                params=[each for each in entries if isinstance(each, Param)],
                tags=[each for each in entries if isinstance(each, RunTag)],
                synchronous=True,
            )
        except Exception as err:
            if not is_refusal(err):
                raise
            if self._server.find_run(run_id) is None:
                self._refuse(f"run {run_id} was deleted", len(entries))
            elif len(entries) == 1:
                self._give_way(run_id, entries[0], str(err))
            else:
                # one bad entry makes MLflow refuse its whole batch
                middle = len(entries) // 2
                self._log_batch(run_id, entries[:middle])
                self._log_batch(run_id, entries[middle:])

    def _give_way(self, run_id: str, entry: _Entry, reason: str) -> None:
        # the user's logger may have written a param of that name, and params cannot be changed
        if isinstance(entry, Param) and not entry.key.startswith("opttune/"):
            self._log_batch(run_id, [Param(f"opttune/{entry.key}", entry.value)])
        else:
            self._refuse(reason)

    def _entries(self, operation: Operation) -> list[_Entry]:
        try:
            return _entries(operation)
        except (TypeError, ValueError, AttributeError) as err:
            self._refuse(str(err))
            return []

    def _refuse(self, reason: str, count: int = 1) -> None:
        self.refused += count
        self.refusal = reason


def _is_new(metric: Metric, last_steps: dict[str, int]) -> bool:
    is_timed = metric.key.startswith(SYSTEM_PREFIX)  # a resumed training does not repeat these
    return is_timed or metric.step == 0 or metric.step > last_steps.get(metric.key, 0)


def _dataset(data: dict[str, str]) -> DatasetInput:
    dataset = Dataset(**{name: value for name, value in data.items() if name != "context"})
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data["context"])])


def _entries(operation: Operation) -> list[_Entry]:
    if operation.kind is Kind.METRICS:
        return [
            Metric(_name(name), _number(value), time_ms or int(time.time() * 1000), int(step))
            for name, value, step, time_ms in operation.data
        ]
    if operation.kind is Kind.PARAMS:
        return [Param(_name(name), str(value)[:_LONGEST_PARAM]) for name, value in operation.data.items()]
    return [RunTag(name[:_LONGEST_NAME], str(value)[:_LONGEST_TAG]) for name, value in operation.data.items()]


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)[:_LONGEST_NAME]


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # bad values become NaN below
    except (TypeError, ValueError):
        return float("nan")
