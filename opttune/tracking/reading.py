"""Read curves back from MLflow."""

from collections.abc import Mapping, Sequence

from mlflow.entities import Run

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
    where = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = server.client.search_runs(
            [parent.info.experiment_id], filter_string=where, max_results=_PAGE, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _curve(server: Server, run: Run, name: str) -> Curve:
    points = {point.step: point.value for point in server.client.get_metric_history(run.info.run_id, name)}
    return sorted(points.items())
