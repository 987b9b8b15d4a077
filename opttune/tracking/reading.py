"""Read curves back from MLflow."""

from collections.abc import Container, Mapping, Sequence

from mlflow.entities import Run

from opttune.tracking.address import database_path, safe_uri
from opttune.tracking.server import KEY_TAG, Server, quiet_warnings

Curve = list[tuple[int, float]]
"""(step, value) pairs, sorted by step."""

_PAGE = 500


def read_curves(
    tracking_uri: str, parent_key: str, keys: Mapping[int, str], names: Sequence[str]
) -> dict[int, dict[str, Curve]]:
    """Return curves of the runs under a search's run.

    Args:
        tracking_uri: Address of MLflow.
        parent_key: Key or id of the search's run.
        keys: Number of a trial -> key of its run.
        names: Names of metrics.

    Returns:
        Number of a trial -> name -> curve; empty if MLflow cannot be reached or does not know the search.
    """
    try:
        with quiet_warnings():
            return _read(Server(tracking_uri), parent_key, keys, names)
    except Exception:  # MLflow may raise anything; a report is then made without curves
        return {}


def read_run_curve(tracking_uri: str, run_id: str, name: str) -> Curve:
    """Return a curve of a run that opttune need not have written.

    Args:
        tracking_uri: Address of MLflow.
        run_id: Id of the run.
        name: Name of the metric.

    Raises:
        LookupError: MLflow cannot be reached, or has no such run or metric; its argument is a sentence.
    """
    path = database_path(tracking_uri)
    if path is not None and not path.exists():
        raise LookupError(f"there is no MLflow database {path}, in which to look for the run {run_id!r}.")
    server = Server(tracking_uri)
    try:
        with quiet_warnings():
            server.check()
            run = server.client.get_run(run_id)
            names = sorted(run.data.metrics)
            curve = _curve(server, run, name) if name in names else []
    except Exception as err:  # MLflow may raise anything
        raise LookupError(f"there is no run {run_id!r} in MLflow at {safe_uri(tracking_uri)} ({_first(err)}).") from err
    if name not in names:
        raise LookupError(f"the run {run_id} has no metric {name!r}; it has {', '.join(names) or 'none'}.")
    return curve


def read_experiment(tracking_uri: str, name: str, metrics: Container[str]) -> list[dict[str, str | float]]:
    """Return the parameters and the latest values of some metrics of the finished runs of an experiment.

    Args:
        tracking_uri: Address of MLflow.
        name: Name of the experiment.
        metrics: The metrics. Others, such as a logged learning rate, are no settings.

    Raises:
        LookupError: MLflow cannot be reached, or has no such experiment; its argument is a sentence.
    """
    path = database_path(tracking_uri)
    if path is not None and not path.exists():
        raise LookupError(f"there is no MLflow database {path}, in which to look for the experiment {name!r}.")
    server = Server(tracking_uri)
    try:
        with quiet_warnings():
            server.check()
            found = server.client.get_experiment_by_name(name)
            runs = [] if found is None else _search(server, found.experiment_id, "attributes.status = 'FINISHED'")
    except Exception as err:  # MLflow may raise anything
        raise LookupError(f"MLflow at {safe_uri(tracking_uri)} cannot be read ({_first(err)}).") from err
    if found is None:
        raise LookupError(f"there is no experiment {name!r} in MLflow at {safe_uri(tracking_uri)}.")
    return [
        {**run.data.params, **{key: value for key, value in run.data.metrics.items() if key in metrics}} for run in runs
    ]


def _first(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")


def _read(
    server: Server, parent_key: str, keys: Mapping[int, str], names: Sequence[str]
) -> dict[int, dict[str, Curve]]:
    server.check()
    parent = server.find_run(parent_key)
    if parent is None:
        return {}
    run_ids = {run.data.tags.get(KEY_TAG): run for run in _children(server, parent)}
    found: dict[int, dict[str, Curve]] = {}
    for number, key in keys.items():
        run = run_ids.get(key)
        if run is not None:
            found[number] = {name: _curve(server, run, name) for name in names if name in run.data.metrics}
    return found


def _children(server: Server, parent: Run) -> list[Run]:
    return _search(server, parent.info.experiment_id, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")


def _search(server: Server, experiment_id: str, where: str) -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = server.client.search_runs([experiment_id], filter_string=where, max_results=_PAGE, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _curve(server: Server, run: Run, name: str) -> Curve:
    points = {point.step: point.value for point in server.client.get_metric_history(run.info.run_id, name)}
    return sorted(points.items())
