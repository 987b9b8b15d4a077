"""Copy functions and classes from opttune's source, with everything that they need, into code without opttune."""

import ast
import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module

from opttune.errors import InputError

_LEFT_OUT = ("ModelError", "Trait")
"""Names of opttune that are replaced, or copied as well."""
_TOP = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def take_out(module_name: str, names: Iterable[str], without: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Return the import lines and definitions that names of an opttune module need in other code.

    Comments are dropped, and docstrings are cut to their first lines. opttune's errors become `ValueError`.

    Args:
        module_name: The module.
        names: Its functions and classes.
        without: Fields and properties of its dataclasses that the other code does not read. They are left out, with
            the functions that only they need.

    Returns:
        Import lines, and the source of each definition in the order of the module.

    Raises:
        InputError: The names need another part of opttune.

    Example:
        >>> imports, definitions = take_out("opttune.build.shapes", ["cosine"])
        >>> imports
        ['from math import cos, pi']
        >>> [definition.splitlines()[0] for definition in definitions][-1]
        'def _between(low: float, share: float) -> float:'
    """
    tree: ast.Module = _LeaveOut(set(without)).visit(ast.parse(inspect.getsource(import_module(module_name))))
    found = {name: node for node in tree.body if isinstance(node, _TOP) for name in _defines(node)}
    needed = _needed(found, names)
    kept = [node for node in tree.body if isinstance(node, _TOP) and needed & set(_defines(node))]
    used = {name for node in kept for name in _names(node)}
    constants = [ast.unparse(node) for node in kept if isinstance(node, ast.Assign | ast.AnnAssign)]
    others = [ast.unparse(_Shorten().visit(node)) for node in kept if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return _imports(tree, used, module_name), ["\n".join(constants), *others] if constants else others


def _needed(found: Mapping[str, ast.stmt], names: Iterable[str]) -> set[str]:
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found and name not in needed:
            needed.add(name)
            waiting += _names(found[name])
    return needed


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _imports(tree: ast.Module, used: set[str], module_name: str) -> list[str]:
    lines = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            lines += [ast.unparse(ast.Import([alias])) for alias in node.names if _called(alias) in used]
        elif isinstance(node, ast.ImportFrom):
            aliases = [alias for alias in node.names if _called(alias) in used]
            if not str(node.module).startswith("opttune."):
                lines += [ast.unparse(ast.ImportFrom(node.module, aliases, 0))] if aliases else []
            elif any(alias.name not in _LEFT_OUT for alias in aliases):
                raise InputError(f"{module_name} needs {', '.join(alias.name for alias in aliases)} of {node.module}.")
    return lines


def _called(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


class _LeaveOut(ast.NodeTransformer):
    """Removes fields and properties of dataclasses, and the local names that then have no use."""

    def __init__(self, fields: set[str]) -> None:
        self._fields = fields

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [each for each in node.body if not self._fields & {*_defines(each)}]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [each for each in node.keywords if each.arg not in self._fields]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        if self._fields:
            read = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
            node.body = [each for each in node.body if not _is_assignment(each) or read & {*_defines(each)}]
        return node


def _is_assignment(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign) and bool(_defines(node))


class _Shorten(ast.NodeTransformer):
    """Cuts docstrings to their first lines and replaces opttune's errors by `ValueError`."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("ValueError", node.ctx) if node.id == "ModelError" else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._shortened(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._shortened(node)

    def _shortened(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        docstring = ast.get_docstring(node)
        if docstring:
            node.body[0] = ast.Expr(ast.Constant(docstring.splitlines()[0]))
        return self.generic_visit(node)
