"""Write a recipe as a `configure_optimizers` in plain torch."""

from collections.abc import Mapping
from textwrap import indent
from typing import Any

from opttune.build.load import load_object
from opttune.build.optimizer import optimizer_arguments
from opttune.catalog.check import check_recipe, split_warmup, with_defaults
from opttune.catalog.info import OptimizerInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.errors import InputError
from opttune.export.groups_code import groups_code
from opttune.export.own_code import is_own, own_text
from opttune.export.source import take_out
from opttune.export.use import Use
from opttune.recipe import Part, Recipe

_HORIZON = object()
"""Placeholder for the number of optimizer steps, which only the Trainer knows."""

_SWITCHES = """
# {name} trains one set of weights and evaluates another: these hooks of a LightningModule switch between them.
def on_train_start(self):
    self.trainer.optimizers[0].train()


def on_validation_start(self):
    if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
        self.trainer.optimizers[0].eval()


def on_validation_end(self):
    if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
        self.trainer.optimizers[0].train()


def on_train_end(self):
    self.trainer.optimizers[0].eval()
"""


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
    names = "configure_optimizers and the hooks below it" if info.needs_eval_mode_switch else "configure_optimizers"
    parts = [
        _docstring(recipe, use, names),
        "\n".join(_sorted({"import torch", *class_imports, *group_imports, *schedule_imports})),
        f"# pass these to the Trainer: Trainer(**TRAINER)\nTRAINER = {_trainer(recipe, info, use)!r}",
        *class_parts,
        *group_parts,
        *schedule_parts,
        method,
        *([_SWITCHES.format(name=info.name).strip()] if info.needs_eval_mode_switch else []),
    ]
    return "\n\n\n".join(parts) + "\n", notes


def _refuse(info: OptimizerInfo, use: Use) -> None:
    why = ""
    if info.needs_create_graph:
        why = "differentiates the gradients, which needs a changed backward pass"
    elif info.takes_model:
        why = "is built from the module itself and makes its own groups"
    elif use.has_own_groups:
        raise InputError(
            "export: the module's own optimizer has several parameter groups. The search kept the ratios of their "
            "learning rates, which code without opttune does not know. Use --format recipe or lightning-cli."
        )
    if why:
        raise InputError(f"export: {info.name} {why}: it needs opttune. Use --format recipe or lightning-cli.")


def _class_code(info: OptimizerInfo) -> tuple[str, list[str], list[str], tuple[str, ...]]:
    """Return the name of the class, import lines, definitions, and notes."""
    path = info.class_path
    if not isinstance(path, str):
        path = f"{path.__module__}.{path.__qualname__}"
    module, _, name = path.rpartition(".")
    if module == "torch.optim":
        return path, [], [], ()
    if module.startswith("opttune."):
        imports, parts = take_out(module, [name])
        return name, imports, parts, ()
    package = module.split(".")[0]
    return name, [f"from {module} import {name}"], [], (f"the code needs the package {package}.",)


def _schedule_code(schedule: Part) -> tuple[list[str], list[str]]:
    info = find_schedule(schedule.name)
    if info.follows_monitor:
        return ["from torch.optim.lr_scheduler import ReduceLROnPlateau"], []
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
    needs_length = not follows or "total_steps" in arguments.values()
    lines = ["total_steps = int(self.trainer.estimated_stepping_batches)"] if needs_length else []
    lines.append(f"optimizer = {build}(parameter_groups(self), {given})")
    lines += _on_monitor(recipe.schedule, use) if follows else _on_steps()
    return "\n".join(["def configure_optimizers(self):", indent("\n".join(lines), "    ")])


def _on_steps() -> list[str]:
    return [
        "scheduler = LambdaLR(optimizer, lambda done: lr_factor(done, total_steps))",
        'return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}',
    ]


def _on_monitor(schedule: Part, use: Use) -> list[str]:
    options: dict[str, Any] = dict(with_defaults(schedule, find_schedule(schedule.name)))
    return [
        "scheduler = ReduceLROnPlateau(",
        f"    optimizer, mode={use.mode!r}, factor={options['decay_factor']!r},",
        f"    patience={options['patience_checks']!r}, threshold={options['improvement_fraction']!r},",
        f"    min_lr=[group['lr'] * {options['final_lr_fraction']!r} for group in optimizer.param_groups],",
        ")",
        f'config = {{"scheduler": scheduler, "interval": "epoch", "monitor": {use.monitor!r}}}',
        'config["frequency"] = self.trainer.check_val_every_n_epoch or 1',
        'return {"optimizer": optimizer, "lr_scheduler": config}',
    ]


def _trainer(recipe: Recipe, info: OptimizerInfo, use: Use) -> dict[str, Any]:
    clip = None if info.own_clipping else recipe.gradient_clip_norm
    return {
        **use.length,
        **({} if clip is None else {"gradient_clip_val": clip}),
        "accumulate_grad_batches": recipe.accumulate_grad_batches,
        **({} if recipe.precision is None else {"precision": recipe.precision}),
    }


def _docstring(recipe: Recipe, use: Use, names: str) -> str:
    # names of the user's must not end the docstring or form an escape sequence
    what = str(recipe).replace("\\", "\\\\").replace('"', '\\"')
    lines = [line.replace("\\", "/").replace('"""', "'''") for line in use.comments[: 2 if use.length else 1]]
    return "\n".join(
        [
            f'"""{what}.',
            "",
            *lines,
            "",
            f"Put all of this into your module's file, and {names} into your LightningModule, or bind it:",
            "Net.configure_optimizers = configure_optimizers",
            '"""',
        ]
    )


def _sorted(lines: set[str]) -> list[str]:
    return sorted(lines, key=lambda line: (line.startswith("from"), line))
