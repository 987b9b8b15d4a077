"""The types of the catalog's rows: frozen data, whose only behaviour is to check a value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from opttune.catalog.ranges import Search
from opttune.errors import RecipeError
from opttune.recipe import Value

Kind = Literal["float", "int", "bool", "text", "floats"]
Ends = Literal["", "low", "high", "both"]
Rise = Literal["", "warmup", "shape"]
_KIND_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "text": "text",
    "floats": "a number",
}


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """One option of an optimizer or schedule.

    Attributes:
        name: Its name in recipes, spaces and, for an optimizer, in the class's constructor.
        default: The value for recipes that do not set it; its length is that of a `floats` option.
        kind: The type of its value.
        low: Least allowed value; None for no limit.
        high: Largest allowed value; None for no limit.
        excluded: The ends of the range that are not allowed: `"low"`, `"high"`, `"both"`, or `""` for none.
        choices: The allowed texts of a `text` option.
        optional: Whether null is allowed.
        needs: Another option that must not be zero if this one is set.
        any_length: Whether a `floats` option may have any number of values, at least one.
        search: Its search ranges, one entry for each of `fields`; empty for an option that is not worth searching.
        help: One line on its effect.
        rises: For the share of the steps in which a schedule's rate rises: `"warmup"` for a linear warmup before the
            shape, `"shape"` if the shape itself rises; `""` for any other option.
        decoupled: Whether it is a decoupled weight decay: a step shrinks the weights by it, times the learning rate.
    """

    name: str
    default: Value
    kind: Kind = "float"
    low: float | None = None
    high: float | None = None
    excluded: Ends = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    needs: str = ""
    any_length: bool = False
    search: tuple[Search | None, ...] = ()
    help: str = ""
    rises: Rise = ""
    decoupled: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its fields in a space: two `betas` are `beta1` and `beta2`.

        Example:
            >>> OptionInfo("betas", (0.9, 0.999), "floats").fields
            ('beta1', 'beta2')
        """
        if isinstance(self.default, tuple):
            return tuple(f"{self.name.removesuffix('s')}{i}" for i in range(1, len(self.default) + 1))
        return (self.name,)

    @property
    def searchable(self) -> dict[str, Search]:
        """Field -> search range, for the `fields` that are worth searching."""
        return {name: search for name, search in zip(self.fields, self.search, strict=False) if search is not None}

    def check(self, value: Value, where: str) -> None:
        """Refuse an invalid value of the option.

        Raises:
            RecipeError: The value is invalid; the message names the option, the value and the allowed values.
        """
        items: tuple[Value, ...] = (value,)
        if self.kind == "floats":
            if not isinstance(value, tuple) or not self._has_length(value):
                count = "" if self.any_length else f"{len(self.fields)} "
                raise RecipeError(f"{where}.{self.name} must be a list of {count}numbers, got {value!r}.")
            items = value
        for item in items:
            self.check_field(item, f"{where}.{self.name}")

    def check_field(self, value: Value, where: str) -> None:
        """Refuse an invalid value of one of the option's `fields`.

        Raises:
            RecipeError: The value is invalid; the message starts with `where` and names the value and the allowed ones.
        """
        if value is None and self.optional:
            return
        if not self._has_kind(value):
            also = " or null" if self.optional else ""
            raise RecipeError(f"{where} must be {_KIND_WORDS[self.kind]}{also}, got {value!r}.")
        if self.choices and value not in self.choices:
            raise RecipeError(f"{where} must be one of {', '.join(self.choices)}, got {value!r}.")
        if isinstance(value, int | float) and not isinstance(value, bool) and not self._in_range(value):
            raise RecipeError(f"{where} must be {self.range_words}, got {value!r}.")

    @property
    def range_words(self) -> str:
        """The allowed range in words, such as `>= 0 and < 1`."""
        words = []
        if self.low is not None:
            words.append(f"{'>' if self.excluded in ('low', 'both') else '>='} {self.low:g}")
        if self.high is not None:
            words.append(f"{'<' if self.excluded in ('high', 'both') else '<='} {self.high:g}")
        return " and ".join(words) or "finite"

    def _has_length(self, value: tuple[float, ...]) -> bool:
        return len(value) >= 1 if self.any_length else len(value) == len(self.fields)

    def _has_kind(self, value: Value) -> bool:
        match self.kind:
            case "bool":
                return isinstance(value, bool)
            case "int":
                return isinstance(value, int) and not isinstance(value, bool)
            case "float" | "floats":
                return isinstance(value, int | float) and not isinstance(value, bool)
            case "text":
                return isinstance(value, str)

    def _in_range(self, number: float) -> bool:
        above = self.low is None or (number > self.low if self.excluded in ("low", "both") else number >= self.low)
        below = self.high is None or (number < self.high if self.excluded in ("high", "both") else number <= self.high)
        return isfinite(number) and above and below


@dataclass(frozen=True, slots=True)
class MatricesOnly:
    """How one optimizer object separates matrices from all other parameters.

    Attributes:
        flag: Key of a parameter group that marks a group of matrices.
        rest_lr: Constructor argument for the learning rate of the other parameters.
    """

    flag: str
    rest_lr: str


@dataclass(frozen=True, slots=True)
class OptimizerInfo:
    """One optimizer.

    Attributes:
        name: Its name in recipes and spaces, lower case.
        class_path: The class, or its dotted path (`"torch.optim.AdamW"`), imported at its first use.
        summary: A description in one line.
        options: The options that a recipe may set; the first is `lr`.
        source: The paper or the reference code.
        code: The reference code, if it is not the class itself.
        base_path: Dotted path of a library's class that `class_path` extends. A module's own optimizer of that class
            has this row too; empty if there is none.
        fixed: Constructor arguments that are the same for every recipe, such as decoupled weight decay.
        tied: Constructor argument -> option whose value it also takes.
        lr_ratios: Constructor argument -> option; the argument gets `lr` times the option's value.
        from_module: Option -> dotted path of a function; if the option is null, its value is the function's result for
            the module.
        total_steps_option: Constructor argument for the optimizer steps of the full length.
        state_bytes: Bytes of state per parameter in float32, measured on the MLP 32-256-256-10 with norms.
        matrices_only: Set for an optimizer whose method trains only matrices (Muon).
        takes_model: Whether the class takes the module itself and makes its own groups.
        one_lr: Whether it works with one learning rate for all parameters; groups with different rates are refused.
        fixed_lr: Whether it finds the step size itself, so `lr` is not searched.
        own_schedule: Whether it replaces a schedule; after the warmup the rate should stay constant.
        own_clipping: Whether it bounds its gradients or updates itself, so clipping by norm is turned off.
        needs_eval_mode_switch: Whether `optimizer.train()` and `.eval()` must be called around validation, checkpoints
            and the end of the training.
        needs_create_graph: Whether it differentiates the gradients, so the backward pass must keep their graph
            (`create_graph=True`). A class may restrict this to some steps with `needs_graph_now`.
        takes_complex: Whether it trains complex parameters.
        takes_sparse: Whether it takes sparse gradients, as from `nn.Embedding(sparse=True)`; such weights get no decay.
        weights_only_unsafe: Whether its state contains Python objects, so `torch.load(weights_only=True)` refuses a
            checkpoint with it.
        extra: Extra of opttune that installs the class's package; empty if the package is always installed.
        is_own: Whether it is the module's own optimizer, so no class is built.
        advice: A sentence or two to know before choosing it.
    """

    name: str
    class_path: str | type
    summary: str
    options: tuple[OptionInfo, ...]
    source: str
    code: str = ""
    base_path: str = ""
    fixed: Mapping[str, Value] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    lr_ratios: Mapping[str, str] = field(default_factory=dict)
    from_module: Mapping[str, str] = field(default_factory=dict)
    total_steps_option: str = ""
    state_bytes: float | None = None
    matrices_only: MatricesOnly | None = None
    takes_model: bool = False
    one_lr: bool = False
    fixed_lr: bool = False
    own_schedule: bool = False
    own_clipping: bool = False
    needs_eval_mode_switch: bool = False
    needs_create_graph: bool = False
    takes_complex: bool = True
    takes_sparse: bool = False
    weights_only_unsafe: bool = False
    extra: str = ""
    is_own: bool = False
    advice: str = ""

    @property
    def kind(self) -> str:
        """The name of its kind in messages."""
        return "optimizer"


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """One learning-rate schedule.

    Attributes:
        name: Its name in recipes and spaces, lower case.
        shape: A function `shape(progress, **options) -> factor` for the part after the warmup, with `progress` in
            [0, 1]; factor 1 is the peak learning rate. Or its dotted path.
        summary: A description in one line.
        options: The options that a recipe may set. An option whose `rises` is `warmup` adds a linear warmup before the
            shape and is not passed to `shape`.
        source: The paper or the reference code.
        follows_monitor: Whether it follows the monitored metric instead of a curve. Then `shape` is a function
            `shape(optimizer, mode, **options) -> torch scheduler`. With a warmup among its options, it receives
            `warmup_steps` instead of the share, and the scheduler's `step()` without a metric counts a step.
        is_own: Whether it is the module's own schedule, so nothing is built.
        advice: A sentence or two to know before choosing it.
    """

    name: str
    shape: str | Callable[..., Any]
    summary: str
    options: tuple[OptionInfo, ...]
    source: str
    follows_monitor: bool = False
    is_own: bool = False
    advice: str = ""

    @property
    def kind(self) -> str:
        """The name of its kind in messages."""
        return "schedule"

    @property
    def warmup(self) -> OptionInfo | None:
        """The option that adds a linear warmup before the shape; None if there is none."""
        return next((option for option in self.options if option.rises == "warmup"), None)


Info = OptimizerInfo | ScheduleInfo


def searched_fields(info: Info) -> dict[str, Search]:
    """Return the search range of each field of a row that is worth searching.

    Example:
        >>> from opttune.catalog.lookup import find_optimizer
        >>> list(searched_fields(find_optimizer("lion")))
        ['lr', 'beta1', 'beta2', 'weight_decay']
    """
    return {name: search for option in info.options for name, search in option.searchable.items()}
