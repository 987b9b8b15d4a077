"""Keep parameter groups that were added during a training, so that a resumed training has them from its start."""

from typing import Any

from opttune.build.late_groups import add_group
from opttune.trainer.namespaces import AnyCallback

_KEY = "opttune.groups"


class GroupKeeper(AnyCallback):
    """Adds the further groups of a checkpoint's optimizer to a new one.

    Lightning builds a new optimizer and then loads its state, which needs the same number of groups.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: list[list[list[str]]] = []
        self._states: list[dict[str, Any]] = []

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the names of the parameters in each group."""
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        checkpoint[_KEY] = [
            [[names.get(id(parameter), "") for parameter in group["params"]] for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Read them."""
        self._names, self._states = checkpoint.get(_KEY, []), checkpoint.get("optimizer_states", [])

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Add the missing groups; their state is loaded next."""
        parameters = dict(pl_module.named_parameters())
        for optimizer, names, state in zip(trainer.optimizers, self._names, self._states, strict=False):
            known = len(optimizer.param_groups)
            for group, saved in list(zip(names, state["param_groups"], strict=True))[known:]:
                if all(name in parameters for name in group):
                    add_group(optimizer, {**saved, "params": [parameters[name] for name in group]})
        self._names, self._states = [], []
