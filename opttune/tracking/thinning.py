"""Choose the steps of a long curve to keep."""

from math import ceil

_WHOLE_SHARE = 0.05


class Thinning:
    """Keeps every step of a short run; of a long one, all steps of its start and an even selection of the rest.

    A run of at most `most_points` steps is kept whole. Of a longer one every step of the first 5% is kept, since
    failures show there. The rest is thinned to the remaining points, at least half of `most_points`. The last step
    is always kept. A curve has at most `most_points` points up to 10 x `most_points` steps.

    Args:
        total_steps: Steps of the full length; None, if it is not known, keeps all.
        most_points: Target number of points of a curve; None keeps all.

    Example:
        >>> keep = Thinning(total_steps=5_000).keep
        >>> sum(keep(step) for step in range(1, 5_001))
        930
        >>> keep(250), keep(251), keep(5_000)
        (True, False, True)
    """

    def __init__(self, total_steps: int | None, most_points: int | None = 1000) -> None:
        self._last = total_steps
        if total_steps is None or most_points is None or total_steps <= most_points:
            self._whole, self._stride = 0, 1
            return
        self._whole = ceil(_WHOLE_SHARE * total_steps)
        left = max(most_points - self._whole - 1, most_points // 2 - 1, 1)
        self._stride = ceil((total_steps - self._whole) / left)

    def keep(self, step: int) -> bool:
        """Return whether to keep the point of this step, counted from 0 or 1."""
        return self._stride == 1 or step <= self._whole or step % self._stride == 0 or step == self._last
