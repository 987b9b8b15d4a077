"""A module's logged values as plain numbers."""

from typing import Any


def as_number(logged: Any) -> float | None:
    """Return a logged value as a number; None if it is not a single number, such as a confusion matrix or a text.

    Example:
        >>> as_number(3), as_number([1, 2])
        (3.0, None)
    """
    try:
        return float(logged)
    except (TypeError, ValueError, RuntimeError):
        return None
