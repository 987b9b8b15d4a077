"""Every error that opttune raises on purpose.

    OpttuneError
    ├── SpaceError          a space file or a range in it is wrong
    ├── RecipeError         a recipe contains an invalid setting
    ├── UnknownNameError    no optimizer, schedule or space has that name
    ├── ModelError          the model or its data cannot be tuned
    │   └── UnsuitableOptimizerError    the recipe's optimizer cannot train this model, but another may
    ├── MonitorError        the monitored metric was never logged
    ├── MissingExtraError   a package of an extra (`pip install 'opttune[...]'`) is not installed
    ├── StudyError          the stored study belongs to another search
    ├── DiskFullError       the disk is full
    └── InputError          any other invalid argument

Each message names the place, the problem, the received value, and the allowed values or the fix.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class OpttuneError(Exception):
    """Base of all errors that opttune raises on purpose; the command turns it into exit code 2."""


class SpaceError(OpttuneError, ValueError):
    """A space, or a range in it, is wrong."""


class RecipeError(OpttuneError, ValueError):
    """A recipe contains an invalid setting."""


class UnknownNameError(OpttuneError, ValueError):
    """No optimizer, schedule, space or key has that name."""


class ModelError(OpttuneError, ValueError):
    """The model or its data cannot be tuned; the message says why."""


class UnsuitableOptimizerError(ModelError):
    """The recipe's optimizer cannot train the model's parameters; the message says why, and names one that can."""


class MonitorError(OpttuneError, RuntimeError):
    """The monitored metric was never logged, or is not a number."""


class MissingExtraError(OpttuneError, ImportError):
    """A package of an extra is not installed; the message says what to install."""


class StudyError(OpttuneError, ValueError):
    """The stored study belongs to another search, or is in use."""


class DiskFullError(OpttuneError, OSError):
    """The disk is full; earlier files are kept."""


class InputError(OpttuneError, ValueError):
    """An argument is invalid."""


_USUAL_NAMES = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "betas": "beta1",
    "warmup": "warmup_fraction",
    "warmup_ratio": "warmup_fraction",
    "warmup_steps": "warmup_fraction",
    "num_warmup_steps": "warmup_fraction",
    "scale": "log",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
}
"""Names of other libraries -> opttune's."""


def one_of(allowed: Iterable[str], got: str = "") -> str:
    """Describe the allowed names: the nearest one first, then at most 12 in order.

    Example:
        >>> one_of(["adam", "adamw", "sgd"], "adamww")
        "Did you mean 'adamw'? Allowed: adam, adamw, sgd."
        >>> one_of(["lr", "momentum"], "learning_rate")
        "Did you mean 'lr'? Allowed: lr, momentum."
    """
    names = sorted(allowed)
    if not names:
        return "None is allowed."
    usual = _USUAL_NAMES.get(got)
    near = [usual] if usual in names else get_close_matches(got, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"{hint}Allowed: {listed}."


def shown(value: object) -> str:
    """Return a value for a message: on one line, cut at 100 characters.

    Example:
        >>> shown({"lr": "fast"})
        "{'lr': 'fast'}"
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; endless nesting
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 100 else text[:97] + "..."
