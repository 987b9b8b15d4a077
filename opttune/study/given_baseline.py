"""A given baseline: an existing curve of the user, from an MLflow run or a CSV file."""

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

from opttune.errors import InputError
from opttune.study.csv_rows import read_csv_rows
from opttune.tracking.reading import Curve, read_run_curve

_WHERE = "baseline_run (--baseline-run)"


@dataclass(frozen=True, slots=True)
class GivenBaseline:
    """The curve of an earlier training with the module's own optimizer.

    Attributes:
        source: The source of the curve, in words.
        curve: Optimizer steps and values, the first step first.

    Example:
        >>> given = GivenBaseline("curve.csv", ((10, 0.8), (20, 0.4)))
        >>> given.value_at(5), given.value_at(15), given.value_at(20)
        (None, 0.6000000000000001, 0.4)
    """

    source: str
    curve: tuple[tuple[int, float], ...]

    @property
    def value(self) -> float:
        """The value at the end."""
        return self.curve[-1][1]

    def value_at(self, step: int) -> float | None:
        """Return the value at a step, interpolated between its neighbours; None before the first step."""
        before = [point for point in self.curve if point[0] <= step]
        after = [point for point in self.curve if point[0] >= step]
        if not before or not after:
            return None
        (left, low), (right, high) = before[-1], after[0]
        return low if left == right else low + (high - low) * (step - left) / (right - left)

    def of_length(self, total_steps: int) -> "GivenBaseline":
        """Return the curve of a training of the full length.

        Args:
            total_steps: Optimizer steps of the full length.

        Raises:
            InputError: The curve has another length.
        """
        last = self.curve[-1][0]
        if last == total_steps:
            return self
        if last == total_steps - 1:
            # Lightning's loggers count steps from 0
            return replace(self, curve=tuple((step + 1, value) for step, value in self.curve))
        raise InputError(
            f"{_WHERE}: {self.source} ends at step {last}, and a full training has {total_steps}: a schedule follows "
            f"the length, so a curve of another length says nothing about this one. Give one whose last step is "
            f"{total_steps}, or let the search train the baseline itself."
        )


def read_baseline(text: str | Path, monitor: str, tracking_uri: str) -> GivenBaseline:
    """Read the curve of the user's own recipe.

    Args:
        text: `RUN_ID` or `RUN_ID:METRIC` of MLflow, or the path of a CSV file with the columns `step` and `value`.
        monitor: The metric of the search; a run must have logged it, unless another one is named.
        tracking_uri: Address of MLflow.

    Raises:
        InputError: There is no such run, metric or file, or the curve cannot be used.
    """
    path = Path(text)
    if path.suffix.lower() == ".csv" or path.is_file():
        return GivenBaseline(f"the file {path}", _checked(_read_csv(path, monitor), str(path)))
    run_id, _, metric = str(text).partition(":")
    try:
        curve = read_run_curve(tracking_uri, run_id, metric or monitor)
    except LookupError as err:
        raise InputError(
            f"{_WHERE}: {err.args[0]} Give RUN_ID, RUN_ID:METRIC, or a CSV file with the columns step,value."
        ) from None
    return GivenBaseline(f"{metric or monitor} of the MLflow run {run_id}", _checked(curve, f"run {run_id}"))


def _read_csv(path: Path, monitor: str) -> Curve:
    rows = read_csv_rows(path, _WHERE)
    if not rows:
        raise InputError(f"{_WHERE}: the file {path} has no rows. It needs the columns step,value.")
    columns = list(rows[0])
    column = next((name for name in (monitor, "value") if name in columns), None)
    if "step" not in columns or column is None:
        raise InputError(
            f"{_WHERE}: the file {path} has the columns {', '.join(columns)}, and needs step and value (or {monitor})."
        )
    # a logger leaves the field empty in rows of other metrics
    return [_point(path, line, row["step"], row[column]) for line, row in enumerate(rows, 2) if row[column]]


def _point(path: Path, line: int, step: str, value: str) -> tuple[int, float]:
    try:
        number = float(step)
        if int(number) != number:
            raise ValueError
        return int(number), float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{_WHERE}: line {line} of {path} holds step {step!r} and value {value!r}, which must be a whole number "
            "and a number."
        ) from None


def _checked(curve: Curve, name: str) -> tuple[tuple[int, float], ...]:
    """Return the finite points in the order of their steps; of equal steps only the last. The end must be finite."""
    ascending = sorted(dict(curve).items())
    points = [point for point in ascending if isfinite(point[1]) or point is ascending[-1]]
    if not points:
        raise InputError(f"{_WHERE}: {name} has no value.")
    for step, value in points:
        if not isfinite(value) or step < 0:
            raise InputError(
                f"{_WHERE}: {name} has the value {value} at step {step}; the last value must be a finite number, "
                "and no step below 0."
            )
    return tuple(points)
