"""Leave Lightning's finders of learning rates and batch sizes out of a fit, because a recipe sets the rate."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from opttune.trainer.namespaces import NAMESPACES, AnyCallback

_FINDERS = tuple(
    getattr(namespace.callbacks, name) for namespace in NAMESPACES for name in ("LearningRateFinder", "BatchSizeFinder")
)


class LeaveOutFinders(AnyCallback):
    """Replaces each finder among the Trainer's and the module's callbacks with an empty callback, for one fit.

    Args:
        warns: Whether to warn of the omitted finders.

    Attributes:
        left_out: The names of their classes.
    """

    def __init__(self, warns: bool = True) -> None:
        super().__init__()
        self.left_out: tuple[str, ...] = ()
        self._warns = warns
        self._replaced: list[tuple[int, Any]] = []

    def without(self, callbacks: list[Any]) -> list[Any]:
        """Return callbacks without the finders, for a new Trainer."""
        finders = [each for each in callbacks if isinstance(each, _FINDERS)]
        self.left_out = tuple(type(finder).__name__ for finder in finders)
        return [each for each in callbacks if each not in finders]

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Replace them in place, because Lightning is about to call the others in the list."""
        self._replaced = [(at, each) for at, each in enumerate(trainer.callbacks) if isinstance(each, _FINDERS)]
        for at, _ in self._replaced:
            trainer.callbacks[at] = AnyCallback()
        found = tuple(type(finder).__name__ for _, finder in self._replaced)
        self.left_out += found
        if found and self._warns:
            rank_zero_warn(f"opttune: {words_of(found)}")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore them."""
        self._restore(trainer)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore them."""
        self._restore(trainer)

    def _restore(self, trainer: Any) -> None:
        while self._replaced:
            at, finder = self._replaced.pop()
            trainer.callbacks[at] = finder


def words_of(left_out: tuple[str, ...]) -> str:
    """Return a sentence on the omitted finders.

    Example:
        >>> words_of(("LearningRateFinder",))
        'LearningRateFinder is left out: a recipe sets the learning rate, at one batch size for all trainings.'
    """
    be = "is" if len(left_out) == 1 else "are"
    names = " and ".join(left_out)
    return f"{names} {be} left out: a recipe sets the learning rate, at one batch size for all trainings."
