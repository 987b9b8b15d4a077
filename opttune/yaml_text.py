"""Read and write YAML; the only module that uses PyYAML.

The reader keeps the line of every key and reads `1e-4` as a number, which PyYAML reads as text. Only `true` and
`false` are booleans. Repeated keys, aliases and tags are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

import yaml

from opttune.errors import shown

MAX_DEPTH = 20
"""How deep mappings and lists may be nested; opttune's own files stay far below it."""

Path = tuple[str, ...]


class YamlTextError(ValueError):
    """The text is not YAML that opttune reads; the message starts with the line."""


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a YAML text, and the line of each key and of each item of a list.

    Attributes:
        data: Plain mappings, lists and scalars.
        lines: Path of keys, and of places in lists, counted from 0 -> line number, counted from 1.
    """

    data: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """Return the line of a key, or of the nearest key above it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """SafeLoader without YAML 1.1's surprises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlTextError(f"{line}: aliases (*{event.anchor}) are not supported.")
        if event.tag not in (None, "!"):
            raise YamlTextError(f"{line}: tags are not supported, got {shown(event.tag)}.")
        if self.depth > MAX_DEPTH:
            raise YamlTextError(f"{line}: mappings and lists are nested more than {MAX_DEPTH} deep.")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_FLOAT_RULE = ("tag:yaml.org,2002:float", re.compile(rf"({_NUMBER.pattern})$"), list("-+.0123456789"))
_Loader.add_implicit_resolver(*_FLOAT_RULE)


def read_yaml(text: str) -> Document:
    """Read one YAML document.

    Raises:
        YamlTextError: The text is not YAML, repeats a key, or uses an unsupported feature.

    Example:
        >>> read_yaml("lr: {low: 1e-4}").data
        {'lr': {'low': 0.0001}}
    """
    lines: dict[Path, int] = {}
    node = _compose(text)
    data = None if node is None else _convert(node, (), lines)
    return Document(data, lines)


def write_yaml(data: Mapping[str, Any], header: str = "", *, in_blocks: bool = False) -> str:
    """Write a mapping of plain values; `header` becomes comment lines above it.

    Inner mappings take one line each, as in the documentation; floats keep every digit.

    Args:
        data: What to write.
        header: Lines of a comment.
        in_blocks: Whether nested mappings and lists are spread over several lines.
    """
    comment = "".join(f"# {_printable(line)}".rstrip() + "\n" for line in header.splitlines())
    flow = None if in_blocks else True
    node: Any = _Dumper(StringIO(), default_flow_style=flow, sort_keys=False).represent_data(data)
    node.flow_style = not data  # one line per key; {} for an empty mapping
    return comment + yaml.serialize(node, Dumper=_Dumper, width=10**6)


def inline_yaml(value: object) -> str:
    """Write a value as it would appear on one line of a YAML file.

    Example:
        >>> inline_yaml({"choices": [True, None, 1e-5]})
        '{choices: [true, null, 1.0e-05]}'
    """
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """SafeDumper whose texts and numbers read back unchanged, here and with YAML 1.1 readers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)
    if "e" in text and "." not in text.split("e")[0]:
        text = text.replace("e", ".0e", 1)  # 1e-05 is text to YAML 1.1 readers, 1.0e-05 is not
    text = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _write_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # in single quotes, a line break would become a blank line
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if "\n" in value else None)


_Dumper.add_representer(float, _write_float)
_Dumper.add_representer(str, _write_text)
# text that this reader would read as a number needs quotes, although it is text in YAML 1.1
_Dumper.add_implicit_resolver(*_FLOAT_RULE)


def _compose(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as err:
        line = text.count("\n", 0, err.position) + 1
        raise YamlTextError(f"{line}: not valid YAML: the character {chr(err.character)!r} is not allowed.") from None
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    except YamlTextError:
        raise
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        problem = ", ".join(part for part in (err.context, err.problem) if part)
        raise YamlTextError(f"{mark.line + 1 if mark else 1}: not valid YAML: {problem}.") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # the latter two: "\\UFFFFFFFF"
        raise YamlTextError(f"{loader.line + 1}: not valid YAML.") from None
    finally:
        loader.dispose()


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in line)


def _convert(node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        lines |= {(*path, str(index)): item.start_mark.line + 1 for index, item in enumerate(node.value)}
        return [_convert(item, (*path, str(index)), lines) for index, item in enumerate(node.value)]
    return _scalar(node)


def _convert_mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlTextError(f"{line}: a key must be a plain word.")
        key = str(key_node.value)
        if key in result:
            raise YamlTextError(f"{line}: key {key!r} is repeated (first: line {lines[*path, key]}).")
        lines[*path, key] = line
        result[key] = _convert(value_node, (*path, key), lines)
    return result


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    match node.tag.rsplit(":", 1)[-1]:
        case "null":
            return None
        case "bool":
            return text == "true"
        case "int":
            return _whole(text, node.start_mark.line + 1)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _whole(text: str, line: int) -> int:
    # int() itself refuses thousands of digits
    number = int(text) if len(text) <= 40 else 2**63
    if not -(2**63) <= number < 2**63:
        raise YamlTextError(f"{line}: the whole number {shown(text)} does not fit in 64 bits.")
    return number
