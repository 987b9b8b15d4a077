"""Space files: YAML text -> `Space`, with file and line in every error."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from opttune.catalog.info import Info, OptimizerInfo, OptionInfo, ScheduleInfo
from opttune.catalog.lookup import find_optimizer, find_schedule
from opttune.catalog.training import GROUP_OPTIONS, RULE_OPTIONS, TRAINING_OPTIONS
from opttune.errors import OpttuneError, RecipeError, SpaceError, UnknownNameError, one_of, shown
from opttune.recipe import OWN, Groups, Rule, is_number, join_names, numbered
from opttune.recipe_groups import RULE_FIELDS
from opttune.space.model import (
    GROUPS,
    LR_FACTOR,
    Branch,
    Choice,
    Field,
    FieldError,
    Fixed,
    Range,
    Scalar,
    SettledSpace,
    Space,
)
from opttune.yaml_text import Document, YamlTextError, inline_yaml, read_yaml, write_yaml

LR_TIMES_WEIGHT_DECAY = "lr_times_weight_decay"
"""A field that replaces `weight_decay`: the product of the two, which depends least on the learning rate."""

_RANGE_KEYS = ("low", "high", "log", "log_of_one_minus", "prior", "source", "reach")
_CHOICE_KEYS = ("choices", "prior", "source")
_TRAINING = {option.name: option for option in TRAINING_OPTIONS}
_SECTIONS = (
    "description", "optimizer", "optimizers", LR_FACTOR, "schedule", "schedules", "groups", *_TRAINING
)  # fmt: skip
_FACTOR = OptionInfo(LR_FACTOR, 1.0, low=0, excluded="low")
_WITHOUT_OWN = (
    "Beside other optimizers, own keeps its schedule automatically; leave it out here.",
    "Write `schedules:`, a list with one for each optimizer, and own only for own.",
)
_GROUPS = {option.name: option for option in GROUP_OPTIONS}
_RULES = {option.name: option for option in RULE_OPTIONS}
_FOLDERS = (Path(__file__).parents[1] / "search_spaces", Path(__file__).parents[2] / "search_spaces")


def load_space(name_or_path: str | Path) -> Space:
    """Load a shipped space, or your own.

    Args:
        name_or_path: A name from `opttune spaces list`, `"auto"`, or the path of a YAML file.

    Returns:
        The space.

    Raises:
        UnknownNameError: There is neither such a space nor such a file.
        SpaceError: The file is not a valid space; the message names file and line.

    Example:
        >>> load_space("adamw").optimizers[0].name
        'adamw'
    """
    name = "wide" if name_or_path == "auto" else str(name_or_path)
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = _shipped(name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise UnknownNameError(f"cannot read the space {name}: {err.strerror}.") from None
    except UnicodeDecodeError:
        raise SpaceError(f"{name}: not a text file in UTF-8.") from None
    except ValueError as err:  # a zero byte in the path
        raise UnknownNameError(f"cannot read the space {name!r}: {err}.") from None
    return parse_space(text, path.stem, where=str(name_or_path) if path == Path(name) else path.name)


def space_names() -> tuple[str, ...]:
    """Return the names of the shipped spaces."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def shipped_name(space: str | Path | Space) -> str:
    """Return `auto`, or the name of a shipped space; empty for a user's own.

    Example:
        >>> shipped_name("adamw"), shipped_name("mine.yaml")
        ('adamw', '')
    """
    is_shipped = not isinstance(space, Space) and (space == "auto" or str(space) in space_names())
    return str(space) if is_shipped else ""


def settled_to_dict(settled: SettledSpace) -> dict[str, Any]:
    """Return a settled space as plain values for JSON; `settled_from_dict` reads it back without loss."""
    warnings = {"warnings": list(settled.warnings)} if settled.warnings else {}
    return {"name": settled.space.name, "space": settled.space.to_dict(), "notes": list(settled.notes), **warnings}


def settled_from_dict(values: Mapping[str, Any]) -> SettledSpace:
    """Make a settled space from the result of `settled_to_dict`."""
    notes, warnings = tuple(values["notes"]), tuple(values.get("warnings", ()))
    return SettledSpace(parse_space(write_yaml(values["space"]), values["name"]), notes, warnings)


def parse_space(text: str, name: str, where: str = "space") -> Space:
    """Read a space from YAML text.

    Args:
        text: The file's text.
        name: The name of the space.
        where: The name of the file in errors.

    Raises:
        SpaceError: The text is invalid; the message names `where`, the line, the key, and the allowed values.
        UnknownNameError: The catalog has no optimizer or schedule of that name; the message names the same.

    Example:
        >>> space = parse_space("optimizer: {adamw: {lr: {low: 1e-4, high: 5e-4, log: true}}}", "mine")
        >>> [name for name, _ in space.parameters()]
        ['adamw.lr']
    """
    try:
        document = read_yaml(text)
    except YamlTextError as err:
        raise SpaceError(f"{where}:{err}") from None
    return _Parser(document, where).space(name)


def _folder() -> Path:
    # a wheel has the folder inside the package; a checkout has it beside the package
    return next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])


def _shipped(name: str) -> Path:
    names = space_names()
    if name not in names:
        raise UnknownNameError(
            f"unknown space {name!r}. {one_of(names, name)} A space of your own is named by its file: {name}.yaml"
        )
    return _folder() / f"{name}.yaml"


class _Parser:
    """Parser of one document; every method takes the path of the keys that it reads."""

    def __init__(self, document: Document, where: str) -> None:
        self.document = document
        self.where = where

    def fail(self, path: tuple[str, ...], problem: str, kind: type[OpttuneError] = SpaceError) -> NoReturn:
        raise kind(f"{self.where}:{self.document.line(path)}: {problem}") from None

    def space(self, name: str) -> Space:
        self.refuse_misplaced(self.document.data)
        data = self.mapping((), self.document.data, "a space", _SECTIONS)
        if "optimizer" not in data and "optimizers" not in data:
            self.fail(
                (), "there is no `optimizer:`. Write `optimizer: {adamw: {lr: {low: 1e-4, high: 5e-4, log: true}}}`."
            )
        description = data.get("description", "")
        if not isinstance(description, str):
            self.fail(("description",), f"description must be text, got {shown(description)}.")
        groups, group_fields = self.groups(data.get("groups", {}))
        training = tuple(
            (key, self.field((key,), value, _TRAINING[key])) for key, value in data.items() if key in _TRAINING
        )
        optimizers = self.section(data, "optimizer", find_optimizer)
        schedules = _usual_schedules(optimizers)
        if "schedule" in data or "schedules" in data:
            schedules = self.section(data, "schedule", find_schedule)
        self.check_own(optimizers, schedules)
        return Space(
            name=name,
            optimizers=optimizers,
            schedules=schedules,
            training=training,
            groups=groups,
            group_fields=group_fields,
            description=description,
        )

    def section(self, data: dict[str, Any], kind: str, find: Callable[[str], Info]) -> tuple[Branch, ...]:
        """Return the branches of `optimizer:`, or the one of `optimizers:`, a list with an entry for each."""
        several = f"{kind}s"
        if several not in data:
            if kind == "optimizer" and LR_FACTOR in data:
                self.fail((LR_FACTOR,), f"{LR_FACTOR} belongs to `optimizers:`, a list for several of them.")
            return self.branches((kind,), data[kind], find)
        if kind in data:
            self.fail((several,), f"{kind} and {several} exclude each other; keep one of them.")
        entries = data[several]
        if not isinstance(entries, list) or len(entries) < 2:
            self.fail((several,), f"{several} must be a list with an entry for each optimizer, got {shown(entries)}.")
        fields: list[tuple[str, Field]] = []
        names = []
        for number, entry in enumerate(entries):
            branches = self.branches((several, str(number)), entry, find)
            if len(branches) > 1:
                self.fail((several,), f"{several}: entry {number} must be one {kind}, got {shown(list(entry))}.")
            names.append(branches[0].name)
            fields += [(numbered(number, key), field) for key, field in branches[0].fields]
        if kind == "optimizer" and LR_FACTOR in data:
            fields.insert(0, (LR_FACTOR, self.field((LR_FACTOR,), data[LR_FACTOR], _FACTOR)))
        return (Branch(join_names(names), tuple(fields)),)

    def check_own(self, optimizers: tuple[Branch, ...], schedules: tuple[Branch, ...]) -> None:
        """Refuse the module's own schedule for an optimizer that is not its own."""
        for schedule in schedules:
            names = schedule.names
            for optimizer in optimizers:
                owners = optimizer.names
                if len(names) not in (1, len(owners)):
                    self.fail(
                        ("schedules",), f"there must be {len(owners)} schedules, one an optimizer, got {len(names)}."
                    )
                pairs = zip(owners, names if len(names) > 1 else names * len(owners), strict=True)
                if any(name == OWN != owner for owner, name in pairs):
                    at = "schedules" if len(names) > 1 else "schedule"
                    self.fail(
                        (at,),
                        f"schedule own is that of the module's own optimizer, got optimizer {optimizer.name}. "
                        + _WITHOUT_OWN[len(owners) > 1],
                    )

    def refuse_misplaced(self, data: object) -> None:
        """Refuse a field of the groups outside them, and say where it belongs."""
        for key in data if isinstance(data, dict) else ():
            if key in (*_GROUPS, "rules"):
                self.fail((key,), f"{key} belongs to the groups. Write `groups: {{{key}: ..}}`.")

    def branches(self, path: tuple[str, ...], data: object, find: Callable[[str], Info]) -> tuple[Branch, ...]:
        if isinstance(data, str):
            data = {data: None}
        if not isinstance(data, dict) or not data:
            what = ".".join(path)
            self.fail(path, f"{what} must be a name or a mapping of names to fields, got {shown(data)}.")
        return tuple(self.branch((*path, name), fields, find) for name, fields in data.items())

    def branch(self, path: tuple[str, ...], data: object, find: Callable[[str], Info]) -> Branch:
        name = path[-1]
        try:
            info: OptimizerInfo | ScheduleInfo = find(name)
        except UnknownNameError as err:
            self.fail(path, str(err), UnknownNameError)
        options = {field: option for option in info.options for field in option.fields}
        if {"lr", "weight_decay"} <= options.keys():
            options[LR_TIMES_WEIGHT_DECAY] = OptionInfo(LR_TIMES_WEIGHT_DECAY, 0.0, low=0)
        given = self.mapping(path, {} if data is None else data, f"{info.kind} {name}", options)
        fields = {key: self.field((*path, key), value, options[key]) for key, value in given.items()}
        if LR_TIMES_WEIGHT_DECAY in fields:
            self.check_product(path, fields, options)
        for key, found in fields.items():
            self.check_needs((*path, key), found, fields, options)
        return Branch(name, tuple(fields.items()))

    def check_product(self, path: tuple[str, ...], fields: dict[str, Field], options: dict[str, OptionInfo]) -> None:
        product = (*path, LR_TIMES_WEIGHT_DECAY)
        if "weight_decay" in fields:
            self.fail(product, f"{path[-1]} has both weight_decay and {LR_TIMES_WEIGHT_DECAY}; keep one of them.")
        rates = _ends(fields["lr"]) if "lr" in fields else (options["lr"].default,)
        largest = max(_numbers(_ends(fields[LR_TIMES_WEIGHT_DECAY]))) / min(_numbers(rates))
        try:
            options["weight_decay"].check_field(largest, f"weight_decay = {'.'.join(product)} / lr")
        except RecipeError as err:
            self.fail(product, str(err))

    def check_needs(
        self, path: tuple[str, ...], found: Field, fields: dict[str, Field], options: dict[str, OptionInfo]
    ) -> None:
        needed = options[path[-1]].needs
        if not needed or not any(_ends(found)):
            return
        if needed in fields and not _may_be_zero(fields[needed]):
            return
        if needed not in fields and options[needed].default:
            return
        got = f"{needed} may be 0 here" if needed in fields else f"{needed} is {options[needed].default!r} unless set"
        self.fail(path, f"{'.'.join(path)} needs {needed} > 0, and {got}.")

    def field(self, path: tuple[str, ...], data: object, option: OptionInfo) -> Field:
        if isinstance(data, list):
            self.fail(path, f"{'.'.join(path)}: a bare list is ambiguous. Write {_spellings(data)}.")
        found = self.varying(path, data, option) if isinstance(data, dict) else Fixed(self.scalar(path, data))
        for value in _ends(found):
            try:
                option.check_field(value, ".".join(path))
            except RecipeError as err:
                self.fail(path, str(err))
        return found

    def varying(self, path: tuple[str, ...], data: dict[str, Any], option: OptionInfo) -> Field:
        try:
            return self.choice(path, data) if "choices" in data else self.range(path, data, option.kind == "int")
        except FieldError as err:
            self.fail(path, f"{'.'.join(path)}: {err}")

    def choice(self, path: tuple[str, ...], data: dict[str, Any]) -> Choice:
        name = ".".join(path)
        self.mapping(path, data, name, _CHOICE_KEYS)
        if not isinstance(data["choices"], list):
            self.fail((*path, "choices"), f"{name}.choices must be a list, got {shown(data['choices'])}.")
        choices = tuple(self.scalar((*path, "choices"), choice) for choice in data["choices"])
        start = self.start((*path, "prior"), data["prior"], choices) if "prior" in data else 0
        return Choice(choices, start, self.source(path, data))

    def start(self, path: tuple[str, ...], prior: object, choices: tuple[Scalar, ...]) -> int:
        # true == 1 to Python, but not to a reader of the file
        same = [choice == prior and isinstance(choice, bool) == isinstance(prior, bool) for choice in choices]
        if not any(same):
            self.fail(path, f"{'.'.join(path)} must be one of {_listed(choices)}, got {shown(prior)}.")
        return same.index(True)

    def range(self, path: tuple[str, ...], data: dict[str, Any], integer: bool) -> Range:
        name = ".".join(path)
        self.mapping(path, data, name, _RANGE_KEYS)
        if "low" not in data or "high" not in data:
            self.fail(
                path, f"{name} must be {{low: .., high: ..}}, {{choices: [..]}} or a plain value, got {shown(data)}."
            )
        for key in ("low", "high", "prior"):
            if key in data and not is_number(data[key]):
                self.fail((*path, key), f"{name}.{key} must be a finite number, got {shown(data[key])}.")
        flags = [key for key in ("log", "log_of_one_minus") if self.flag(path, data, key)]
        if len(flags) == 2:
            self.fail(path, f"{name}: log and log_of_one_minus exclude each other.")
        scale: Any = flags[0] if flags else "linear"
        reach = self.reach(path, data.get("reach"))
        return Range(data["low"], data["high"], scale, integer, data.get("prior"), self.source(path, data), reach)

    def reach(self, path: tuple[str, ...], data: object) -> tuple[float, float] | None:
        if data is None:
            return None
        if not isinstance(data, list) or len(data) != 2 or not all(map(is_number, data)):
            self.fail((*path, "reach"), f"{'.'.join(path)}.reach must be two numbers, [low, high], got {shown(data)}.")
        return float(data[0]), float(data[1])

    def scalar(self, path: tuple[str, ...], data: object) -> Scalar:
        try:
            return Fixed(data).value  # type: ignore[arg-type]
        except FieldError as err:
            self.fail(path, f"{'.'.join(path)}: {err}")

    def flag(self, path: tuple[str, ...], data: dict[str, Any], key: str) -> bool:
        value = data.get(key, False)
        if not isinstance(value, bool):
            self.fail((*path, key), f"{'.'.join(path)}.{key} must be true or false, got {shown(value)}.")
        return value

    def source(self, path: tuple[str, ...], data: dict[str, Any]) -> str:
        source = data.get("source", "")
        if not isinstance(source, str):
            self.fail((*path, "source"), f"{'.'.join(path)}.source must be text, got {shown(source)}.")
        return source

    def groups(self, data: object) -> tuple[Groups, tuple[tuple[str, Range | Choice], ...]]:
        settings = self.mapping((GROUPS,), data, GROUPS, (*_GROUPS, "rules"))
        rules = settings.get("rules", [])
        if not isinstance(rules, list):
            self.fail((GROUPS, "rules"), f"groups.rules must be a list of rules, got {shown(rules)}.")
        # in a fixed order, so that writing and reading a space gives the same space
        given = [name for name in _GROUPS if name in settings]
        found = {name: self.field((GROUPS, name), settings[name], _GROUPS[name]) for name in given}
        read = [self.rule((GROUPS, "rules", str(index)), rule) for index, rule in enumerate(rules)]
        self.refuse_repeated([rule.match for rule, _ in read])
        groups = Groups(rules=tuple(rule for rule, _ in read))
        for name, (index, attribute) in groups.rule_fields.items():
            factor = read[index][1].get(attribute)
            found |= {} if factor is None else {name: factor}
        varying = tuple((name, field) for name, field in found.items() if not isinstance(field, Fixed))
        return groups.with_fields({n: f.value for n, f in found.items() if isinstance(f, Fixed)}), varying

    def rule(self, path: tuple[str, ...], data: object) -> tuple[Rule, dict[str, Field]]:
        """Return a rule with default factors, and its varying factors by the rule's attribute."""
        spellings = {held: name for name, held in RULE_FIELDS.items()} | {name: name for name in RULE_FIELDS}
        settings = self.mapping(path, data, "a rule of groups", ("match", *spellings))
        if "match" not in settings:
            form = "{match: REGEX, lr_ratio: {low: 0.01, high: 1, log: true}}"
            self.fail(path, f"a rule of groups is {form}, got {shown(data)}.")
        try:
            rule = Rule(settings["match"])
        except RecipeError as err:
            self.fail((*path, "match"), str(err).removeprefix("recipe: "))
        fields: dict[str, Field] = {}
        for key, value in settings.items():
            if key == "match":
                continue
            name = spellings[key]
            if RULE_FIELDS[name] in fields:
                self.fail((*path, key), f"{name} and {RULE_FIELDS[name]} are the same factor; keep one.")
            fields[RULE_FIELDS[name]] = self.field((*path, key), value, _RULES[name])
        return rule, fields

    def refuse_repeated(self, matches: list[str]) -> None:
        for index, match in enumerate(matches):
            if match in matches[:index]:
                self.fail(
                    (GROUPS, "rules", str(index), "match"),
                    f"groups.rules: {match!r} is given twice, and only the first rule that matches applies.",
                )

    def mapping(self, path: tuple[str, ...], data: object, what: str, allowed: Iterable[str]) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail(path, f"{what} must be a mapping, got {shown(data)}.")
        for key in data:
            if key not in allowed:
                self.fail((*path, key), f"unknown key {shown(key)} in {what}. {one_of(allowed, key)}")
        return data


def _usual_schedules(optimizers: tuple[Branch, ...]) -> tuple[Branch, ...]:
    """Return the schedules of a space without any: the module's own for its own optimizers, else none."""
    names = [OWN if name == OWN else "constant" for name in optimizers[0].names]
    if len(names) == 1 and not all(branch.is_own for branch in optimizers):
        names = ["constant"]
    return (Branch(join_names(names) if len(set(names)) > 1 else names[0]),)


def _spellings(items: list[Any]) -> str:
    as_choices = f"{{choices: {_listed(items)}}}"
    if len(items) != 2 or not all(is_number(item) for item in items) or items[0] == items[1]:
        return as_choices
    low, high = (inline_yaml(end) for end in sorted(items))
    return f"{{low: {low}, high: {high}}} or {as_choices}"


def _listed(items: Iterable[object]) -> str:
    text = inline_yaml(list(items))
    return text if len(text) <= 100 else "[..]"


def _numbers(values: Iterable[object]) -> list[float]:
    return [float(value) for value in values if is_number(value)]


def _may_be_zero(found: Field) -> bool:
    if isinstance(found, Range):
        return found.low <= 0 <= found.high
    return not all(_ends(found))


def _ends(found: Field) -> tuple[Scalar, ...]:
    match found:
        case Range():
            return (int(found.low), int(found.high)) if found.integer else (found.low, found.high)
        case Choice():
            return found.choices
        case Fixed():
            return (found.value,)
