"""Write a recipe as a `configure_optimizers` in plain torch."""

import re
from collections.abc import Mapping
from textwrap import indent
from typing import Any

from opttune.build.load import load_object
from opttune.build.optimizer import optimizer_arguments
from opttune.build.plateau import WarmedReduceLROnPlateau
from opttune.catalog.check import check_recipe, split_warmup
from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError
from opttune.export.groups_code import groups_code
from opttune.export.own_code import is_own, own_text, trainer_arguments
from opttune.export.source import take_out
from opttune.export.use import Use
from opttune.recipe import Part, Recipe

_HORIZON = object()
"""Placeholder for the number of optimizer steps, which only the Trainer knows."""

_IN_A_FIT = 'if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:'
_SWITCHES = {
    "on_train_start(self)": ["self.trainer.optimizers[0].train()"],
    "on_validation_start(self)": [_IN_A_FIT, "    self.trainer.optimizers[0].eval()"],
    "on_validation_end(self)": [_IN_A_FIT, "    self.trainer.optimizers[0].train()"],
    "on_train_end(self)": ["self.trainer.optimizers[0].eval()"],
}
"""Hook -> its lines, for an optimizer that trains one set of weights and evaluates another."""
_CHECKS = {
    "on_validation_start(self)": ["self._metric_before = self.trainer.callback_metrics.get({monitor!r})"],
    "on_validation_end(self)": [
        "metric = self.trainer.callback_metrics.get({monitor!r})",
        "is_new = metric is not None and metric is not self._metric_before",
        _IN_A_FIT.removesuffix(":") + " and is_new:",
        "    self._follows_validations = True",
        "    self.trainer.lr_scheduler_configs[0].scheduler.step(metric)",
    ],
    "lr_scheduler_step(self, scheduler, metric)": [
        "if metric is None:",
        "    scheduler.step()",
        "elif not getattr(self, '_follows_validations', False):",
        "    scheduler.step(metric)",
    ],
}
"""Hook -> its lines, for a schedule that follows the metric: Lightning steps it only at the ends of epochs."""


def python_text(recipe: Recipe, use: Use) -> tuple[str, tuple[str, ...]]:
    """Return a Python file with `configure_optimizers(self)` and `TRAINER`, and notes for the user.

    Args:
        recipe: The recipe.
        use: Its origin and the settings of its training.

    Raises:
        InputError: The optimizer needs opttune during the training, or the search kept the module's own parameter
            groups.
    """
    check_recipe(recipe)
    if is_own(recipe):
        return own_text(recipe, use)
    if len(recipe.optimizer.split()) > 1 or len(recipe.schedule.split()) > 1:
        raise InputError("export: a recipe for several optimizers needs opttune. Use --format recipe or lightning-cli.")
    info = find_optimizer(recipe.optimizer.name)
    _refuse(info, use)
    options = optimizer_arguments(recipe, info, None, _HORIZON)
    arguments = {name: "total_steps" if value is _HORIZON else repr(value) for name, value in options.items()}
    build, class_imports, class_parts, notes = _class_code(info)
    group_imports, group_parts = groups_code(recipe.groups, info, arguments)
    schedule_imports, schedule_parts = _schedule_code(recipe.schedule)
    method = _method(build, arguments, recipe, use)
    hooks = _hooks_code(recipe, info, use)
    parts = [
        _docstring(recipe, use, hooks),
        "\n".join(_sorted({"import torch", *class_imports, *group_imports, *schedule_imports})),
        _trainer_code(recipe, info, use),
        *class_parts,
        *group_parts,
        *schedule_parts,
        method,
        *hooks,
    ]
    return "\n\n\n".join(parts) + "\n", notes


def _refuse(info: OptimizerInfo, use: Use) -> None:
    why = ""
    if info.needs_create_graph:
        why = "differentiates the gradients, which needs a changed backward pass"
    elif info.takes_model:
        why = "is built from the module itself and makes its own groups"
    elif use.is_manual:
        why = "has a schedule that no Trainer steps under manual optimization"
    elif use.has_own_groups:
        raise InputError(
            "export: the module's own optimizer has several parameter groups. The search kept the ratios of their "
            "learning rates, which code without opttune does not know. Use --format recipe or lightning-cli."
        )
    if why:
        raise InputError(f"export: {info.name} {why}: it needs opttune. Use --format recipe or lightning-cli.")


def _trainer_code(recipe: Recipe, info: OptimizerInfo, use: Use) -> str:
    arguments = trainer_arguments(recipe, use)
    comments = ["# pass these to the Trainer: Trainer(**TRAINER)"]
    if info.takes_sparse and "gradient_clip_val" in arguments:
        comments.append("# if your module has sparse gradients, leave out gradient_clip_val: they cannot be clipped")
    return "\n".join([*comments, f"TRAINER = {arguments!r}"])


def _class_code(info: OptimizerInfo) -> tuple[str, list[str], list[str], tuple[str, ...]]:
    """Return the name of the class, import lines, definitions, and notes."""
    path = info.class_path
    if not isinstance(path, str):
        path = f"{path.__module__}.{path.__qualname__}"
    module, _, name = path.rpartition(".")
    if module == "torch.optim":
        return path, [], [], ()
    package = (info.base_path or module).partition(".")[0]
    notes = () if package == "opttune" else (f"the code needs the package {package}.",)
    if module.startswith("opttune."):
        return name, *take_out(module, [name]), notes
    return name, [f"from {module} import {name}"], [], notes


def _schedule_code(schedule: Part) -> tuple[list[str], list[str]]:
    info = find_schedule(schedule.name)
    if info.follows_monitor:
        return _plateau_code(schedule)
    warmup, options = split_warmup(schedule, info)
    shape: Any = load_object(info.shape)
    if shape.__module__.startswith("opttune."):
        imports, parts = take_out(shape.__module__, [shape.__name__])
    else:
        imports, parts = [f"from {shape.__module__} import {shape.__name__}"], []
    call = ", ".join(["progress", *(f"{name}={value!r}" for name, value in options.items())])
    lines = [
        "def lr_factor(done, total_steps):",
        '    """Return the factor of the peak learning rate after `done` optimizer steps."""',
        f"    warmup_steps = round({warmup!r} * total_steps)",
        "    if done < warmup_steps:",
        "        return (done + 1) / warmup_steps",
        "    progress = min(1.0, (done - warmup_steps) / max(1, total_steps - warmup_steps))",
        f"    return {shape.__name__}({call})",
    ]
    return [*imports, "from torch.optim.lr_scheduler import LambdaLR"], [*parts, "\n".join(lines)]


def _method(build: str, arguments: Mapping[str, str], recipe: Recipe, use: Use) -> str:
    given = ", ".join(f"{name}={value}" for name, value in arguments.items())
    follows = find_schedule(recipe.schedule.name).follows_monitor
    # a metric determines the drops of the rate; a warmup is a share of the length
    warms_up = split_warmup(recipe.schedule, find_schedule(recipe.schedule.name))[0] > 0
    needs_length = not follows or warms_up or "total_steps" in arguments.values()
    lines = ["total_steps = int(self.trainer.estimated_stepping_batches)"] if needs_length else []
    lines.append(f"optimizer = {build}(parameter_groups(self), {given})")
    lines += _on_monitor(recipe.schedule, use) if follows else _on_steps()
    return "\n".join(["def configure_optimizers(self):", indent("\n".join(lines), "    ")])


def _on_steps() -> list[str]:
    return [
        "scheduler = LambdaLR(optimizer, lambda done: lr_factor(done, total_steps))",
        'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}',
    ]


def _plateau_code(schedule: Part) -> tuple[list[str], list[str]]:
    share, _ = split_warmup(schedule, find_schedule(schedule.name))
    if share == 0:
        return ["from torch.optim.lr_scheduler import ReduceLROnPlateau"], []
    return take_out(WarmedReduceLROnPlateau.__module__, [WarmedReduceLROnPlateau.__name__])


def _on_monitor(schedule: Part, use: Use) -> list[str]:
    options: dict[str, Any]
    share, options = split_warmup(schedule, find_schedule(schedule.name))
    name, warmup = ("WarmedReduceLROnPlateau", " warmup_steps,") if share else ("ReduceLROnPlateau", "")
    lines = [
        f"scheduler = {name}(",
        f"    optimizer,{warmup} mode={use.mode!r}, factor={options['decay_factor']!r},",
        f"    patience={options['patience_checks']!r}, threshold={options['improvement_fraction']!r},",
        f"    min_lr=[group['lr'] * {options['final_lr_fraction']!r} for group in optimizer.param_groups],",
        ")",
        f'config = {{"scheduler": scheduler, "interval": "epoch", "monitor": {use.monitor!r}, "strict": False}}',
        'config |= {"frequency": self.trainer.check_val_every_n_epoch or 1, "reduce_on_plateau": True}',
    ]
    if not share:
        return [*lines, "return [optimizer], [config]"]
    in_warmup = '{"scheduler": scheduler, "interval": "step", "reduce_on_plateau": False}'
    return [f"warmup_steps = round({share!r} * total_steps)", *lines, f"return [optimizer], [config, {in_warmup}]"]


def _hooks_code(recipe: Recipe, info: OptimizerInfo, use: Use) -> list[str]:
    """Return the further hooks of the module: for the optimizer, and for a schedule that follows the metric."""
    comments, lines = [], dict[str, list[str]]()
    if find_schedule(recipe.schedule.name).follows_monitor:
        comments.append("The schedule follows the metric")
        lines |= {hook: [line.format(monitor=use.monitor) for line in _CHECKS[hook]] for hook in _CHECKS}
    if info.needs_eval_mode_switch:
        comments.append(f"{info.name} trains one set of weights and evaluates another")
        lines |= {hook: [*lines.get(hook, []), *more] for hook, more in _SWITCHES.items()}
    hooks = ["\n".join([f"def {hook}:", *(f"    {line}" for line in body)]) for hook, body in lines.items()]
    if not hooks:
        return []
    return [f"# {'; '.join(comments)}: these hooks of a LightningModule do so.\n{hooks[0]}", *hooks[1:]]


def _docstring(recipe: Recipe, use: Use, hooks: list[str]) -> str:
    names = [
        "configure_optimizers",
        *(name for hook in hooks for name in re.findall(r"^def (\w+)", hook, re.MULTILINE)),
    ]
    words = "configure_optimizers and the hooks below it" if hooks else names[0]
    # the user's names must not end the docstring or form an escape sequence
    what = str(recipe).replace("\\", "\\\\").replace('"', '\\"')
    lines = [line.replace("\\", "/").replace('"""', "'''") for line in use.code_comments]
    return "\n".join(
        [
            f'"""{what}.',
            "",
            *lines,
            "",
            f"Put all of this into your module's file, and {words} into {use.class_name or 'your LightningModule'}, or "
            f"bind {'them' if hooks else 'it'}:",
            *(f"{use.class_name or 'Net'}.{name} = {name}" for name in names),
            '"""',
        ]
    )


def _sorted(lines: set[str]) -> list[str]:
    return sorted(lines, key=lambda line: (line.startswith("from"), line))
