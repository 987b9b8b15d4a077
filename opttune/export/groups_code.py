"""Generate code that splits a module's parameters into a recipe's groups without opttune."""

import re
from collections.abc import Mapping
from dataclasses import fields
from textwrap import indent
from typing import Any

from opttune.build.traits import Trait
from opttune.catalog.info import OptimizerInfo
from opttune.export.source import take_out
from opttune.recipe import Groups

_LORA_B = r"(^|[._])lora_(embedding_)?B([._]|$)"
_KINDS = tuple(field.name for field in fields(Trait) if field.name.startswith("is_"))
_MATRIX, _MATRIX_IS_NONE_OF = "is_hidden_matrix", ("is_norm_or_bias", "is_embedding", "is_output")


def groups_code(groups: Groups, info: OptimizerInfo, arguments: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return import lines and definitions, `parameter_groups(module)` the last of them.

    Args:
        groups: How the recipe splits the parameters.
        info: The optimizer's row.
        arguments: The arguments of its class, as source text.
    """
    function = _function(groups, info, arguments)
    depth_imports, depth = take_out("opttune.build.depth", ["parameter_depths"]) if groups.scales_layers else ([], [])
    imports, parts = take_out("opttune.build.traits", ["parameter_traits"], _unread("\n".join([function, *depth])))
    imports, parts = imports + depth_imports, parts + depth
    if groups.rules:
        rules = [(rule.match, rule.lr_mult, rule.weight_decay_mult, rule.as_matrix) for rule in groups.rules]
        parts.append("# name, factor of the learning rate, of the weight decay, whether it is a matrix\n"
                     f"RULES = {rules!r}")  # fmt: skip
    if groups.rules or groups.scales_lora_b:
        imports.append("import re")
    return imports, [*parts, function]


def _unread(code: str) -> set[str]:
    """Return the kinds of a parameter that code does not read."""
    read = {name for name in _KINDS if re.search(rf"\.{name}\b", code)}
    return {*_KINDS, _MATRIX} - (read | ({_MATRIX, *_MATRIX_IS_NONE_OF} if f".{_MATRIX}" in code else set()))


def _function(groups: Groups, info: OptimizerInfo, arguments: Mapping[str, Any]) -> str:
    body = ["traits = parameter_traits(module)"]
    if groups.scales_layers:
        body += ["depths = parameter_depths(module, traits)", "top = max(depths.values())"]
    body += ["groups = {}", "for trait in traits:"]
    body += [indent(line, "    ") for line in _loop(groups, info)]
    body.append("return [")
    body.append(indent(_group(info, arguments), "    "))
    names = "(*_, is_matrix, lr, decay)" if info.matrices_only is not None else "(*_, lr, decay)"
    body += [f"    for {names}, parameters in groups.items()", "]"]
    text = '"""Split the trainable parameters into groups with their own learning rate and weight decay."""'
    return "\n".join(["def parameter_groups(module):", indent("\n".join([text, *body]), "    ")])


def _loop(groups: Groups, info: OptimizerInfo) -> list[str]:
    lines = ["lr = decay = 1.0"]
    keys = []
    if groups.rules:
        lines += [
            "rule = next((n for n, (match, *_) in enumerate(RULES) if re.search(match, trait.name)), None)",
            "if rule is not None:",
            "    lr, decay = lr * RULES[rule][1], decay * RULES[rule][2]",
        ]
        keys.append("rule")
    if groups.scales_layers:
        lines.append(f"lr *= {groups.layer_decay!r} ** (top - depths[trait.name])")
        keys.append("depths[trait.name]")
    if groups.scales_lora_b:
        lines += [
            f"is_lora = bool(re.search({_LORA_B!r}, trait.name))",
            f"lr *= {groups.lora_plus_ratio!r} if is_lora else 1.0",
        ]
        keys.append("is_lora")
    if info.matrices_only is not None:
        lines.append(f"is_matrix = {_matrix_rule(groups)} and trait.parameter.ndim > 1")
        keys.append("is_matrix")
    without = [
        *(["trait.is_norm_or_bias"] if groups.no_decay_norm_bias else []),
        # torch adds no decay to a sparse gradient; the other optimizers refuse it
        *(["trait.is_sparse"] if info.takes_sparse else []),
        *(["trait.is_embedding"] if groups.no_decay_embeddings else []),
    ]
    if without:
        lines += [f"if {' or '.join(without)}:", "    decay = 0.0"]
    key = ", ".join([*keys, "lr", "decay"])
    return [*lines, f"groups.setdefault(({key}), []).append(trait.parameter)"]


def _matrix_rule(groups: Groups) -> str:
    if any(rule.as_matrix is not None for rule in groups.rules):
        return "(trait.is_hidden_matrix if rule is None or RULES[rule][3] is None else RULES[rule][3])"
    return "trait.is_hidden_matrix"


def _group(info: OptimizerInfo, arguments: Mapping[str, Any]) -> str:
    entries = ['"params": parameters']
    lr = arguments["lr"]
    if info.matrices_only is not None:
        entries.append(f'"{info.matrices_only.flag}": is_matrix')
        lr = f"({lr} if is_matrix else {arguments[info.matrices_only.rest_lr]})"
    entries.append(f'"lr": {lr} * lr')
    if "weight_decay" in arguments:
        decays = ["weight_decay", *(name for name, option in info.tied.items() if option == "weight_decay")]
        entries += [f'"{name}": {arguments["weight_decay"]} * decay' for name in decays]
    return "{" + ", ".join(entries) + "}"
