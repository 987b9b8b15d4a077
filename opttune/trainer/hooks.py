"""Replace a hook of one module or data module temporarily."""

from typing import Any


class ReplacedHook:
    """Replaces a hook on the instance until it is restored; the class does not change.

    Args:
        owner: The module or data module.
        name: The hook.
        replacement: What to call instead; a method must be bound to the owner.

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
        # another tool, such as LightningCLI, may have bound one on the instance
        self._shadowed = vars(owner).get(name)
        setattr(owner, name, replacement)

    def restore(self) -> None:
        """Restore the hook."""
        if self._shadowed is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._shadowed)
