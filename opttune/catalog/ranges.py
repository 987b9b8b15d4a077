"""The search range of an option: its ends, centre and scale, and the budget from which it varies.

A range in the catalog describes the optimizer, not a task. It is wider than most trainings need; the space files narrow
it. Every range has its source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import Literal

from opttune.recipe import Value

ScaleName = Literal["linear", "log", "log_of_one_minus"]

SHORT_STEPS = 300
"""Length of a training, in optimizer steps, up to which `short_centre` applies."""
LONG_STEPS = 30_000
"""Length of a training, in optimizer steps, from which `centre` applies."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale for values: they are spread evenly over `forward(value)`.

    Attributes:
        forward: Value -> coordinate, strictly increasing.
        backward: Coordinate -> value.
        holds: Whether a value has a coordinate; 0 has none on a logarithmic scale.
    """

    forward: Callable[[float], float]
    backward: Callable[[float], float]
    holds: Callable[[float], bool]

    def place(self, value: float, low: float, high: float) -> float:
        """Return the position of a value: 0 at `low`, 1 at `high`, and outside [0, 1] beyond them."""
        start, end = self.forward(low), self.forward(high)
        return (self.forward(value) - start) / (end - start)

    def at(self, place: float, low: float, high: float) -> float:
        """Return the value at a position: the inverse of `place`, up to rounding."""
        start, end = self.forward(low), self.forward(high)
        return self.backward(start + place * (end - start))


SCALES: dict[ScaleName, Scale] = {
    "linear": Scale(lambda value: value, lambda coordinate: coordinate, lambda value: True),
    "log": Scale(log, exp, lambda value: value > 0),
    "log_of_one_minus": Scale(
        lambda value: -log(1 - value), lambda coordinate: 1 - exp(-coordinate), lambda value: value < 1
    ),
}
"""The scales by name: even steps, even factors, and even factors of the distance to 1."""


@dataclass(frozen=True, slots=True)
class SearchRange:
    """An interval to search.

    Attributes:
        low: Least value.
        high: Largest value.
        centre: Mode of the prior.
        scale: `linear`; `log` for values that vary by factors; `log_of_one_minus` for decay rates near 1.
        source: The paper, code or measurement behind the range.
        from_budget: Budget, in full trainings, from which the option is worth varying.
        also: Single values outside the interval, such as an exact 0 on a logarithmic scale.
        short_centre: Mode for trainings of `SHORT_STEPS` steps, if it differs. Between this length and `LONG_STEPS`,
            the mode is interpolated over the logarithm of the length.
    """

    low: float
    high: float
    centre: float
    scale: ScaleName
    source: str
    from_budget: int = 25
    also: tuple[Value, ...] = ()
    short_centre: float | None = None

    def at(self, place: float) -> float:
        """Return the value at a position in [0, 1] on the range's scale.

        Example:
            >>> SearchRange(1e-4, 1e-2, 1e-3, "log", source="...").at(0.5)
            0.001
            >>> round(SearchRange(0.9, 0.999, 0.99, "log_of_one_minus", source="...").at(0.5), 6)
            0.99
        """
        return float(f"{SCALES[self.scale].at(place, self.low, self.high):.12g}")

    def place(self, value: float) -> float:
        """Return the position of a value: 0 at `low`, 1 at `high`, outside [0, 1] beyond them.

        Example:
            >>> round(SearchRange(1e-4, 1e-2, 1e-3, "log", source="...").place(1e-3), 6)
            0.5
        """
        return SCALES[self.scale].place(value, self.low, self.high)

    def has_place_for(self, value: float) -> bool:
        """Return whether the scale is defined for a value; a logarithmic scale is not defined for 0.

        Example:
            >>> lr = SearchRange(1e-4, 1e-2, 1e-3, "log", source="...")
            >>> lr.has_place_for(1.0), lr.has_place_for(0.0)
            (True, False)
        """
        return SCALES[self.scale].holds(value)

    def centre_for(self, total_steps: int) -> float:
        """Return the prior's mode for a training of `total_steps` optimizer steps.

        Example:
            >>> lr = SearchRange(1e-5, 1e-1, 1e-3, "log", source="...", short_centre=1e-2)
            >>> lr.centre_for(300), round(lr.centre_for(3000), 5), lr.centre_for(100_000)
            (0.01, 0.00316, 0.001)
        """
        if self.short_centre is None:
            return self.centre
        share = (log(max(total_steps, 1)) - log(SHORT_STEPS)) / (log(LONG_STEPS) - log(SHORT_STEPS))
        share = min(1.0, max(0.0, share))
        short, long = self.place(self.short_centre), self.place(self.centre)
        return self.at(short + share * (long - short))


@dataclass(frozen=True, slots=True)
class SearchChoices:
    """A few values to choose from.

    Attributes:
        values: The values.
        centre: The preferred value before any trial.
        source: The paper, code or measurement behind the values.
        from_budget: Budget, in full trainings, from which the option is worth varying.
    """

    values: tuple[Value, ...]
    centre: Value
    source: str
    from_budget: int = 25


Search = SearchRange | SearchChoices
