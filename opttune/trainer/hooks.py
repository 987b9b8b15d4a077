"""Replace a hook of one module or data module for a while."""

from typing import Any


class ReplacedHook:
    """A hook that is replaced on the instance until it is restored; the class stays as it is.

    Args:
        owner: The module or data module.
        name: The hook.
        replacement: What to call instead; for a method of the owner's, bound to it.

    Example:
        >>> class Module:
        ...     def forward(self):
        ...         return "own"
        >>> module = Module()
        >>> replaced = ReplacedHook(module, "forward", lambda: "other")
        >>> module.forward()
        'other'
        >>> replaced.restore()
        >>> module.forward()
        'own'
    """

    def __init__(self, owner: Any, name: str, replacement: Any) -> None:
        self._owner, self._name = owner, name
        # another tool may have bound one on the instance: LightningCLI does
        self._shadowed = vars(owner).get(name)
        setattr(owner, name, replacement)

    def restore(self) -> None:
        """Put back what was there before."""
        if self._shadowed is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._shadowed)
