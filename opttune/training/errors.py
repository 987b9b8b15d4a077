"""The meaning of an error that ended a training: too little memory, a full disk, divergence, or failing code."""

import errno
import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import suppress
from math import isnan
from pathlib import Path
from typing import Any

import torch

from opttune.errors import DiskFullError
from opttune.outcome import StopReason

_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_SQLITE_WORDS = "database or disk is full"
_NOT_FINITE = re.compile(
    r"(?<![a-z_])(nans?|[+-]?inf(inity|inite)?|non-?finite|not[ -]finite|overflow)(?![a-z_])", re.IGNORECASE
)
_MOST_WORDS = 300
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OURS = Path(__file__).parents[1]
_LIBRARY_FOLDERS = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})


def reason_of(error: BaseException) -> StopReason:
    """Return the stop reason of a training that raised an error.

    Example:
        >>> str(reason_of(MemoryError())), str(reason_of(ValueError("no")))
        ('out_of_memory', 'failed')
    """
    return StopReason.OUT_OF_MEMORY if any(map(_is_lack_of_memory, _causes(error))) else StopReason.FAILED


def raise_if_disk_is_full(error: BaseException) -> None:
    """Raise if an error means a full disk, which the recipe did not cause.

    Raises:
        DiskFullError: The disk is full.
    """
    for cause in _causes(error):
        is_full = isinstance(cause, OSError) and cause.errno in _FULL
        if is_full or _SQLITE_WORDS in str(cause):
            where = f" ({cause.filename})" if isinstance(cause, OSError) and cause.filename else ""
            raise DiskFullError(
                f"the disk is full{where}: {getattr(cause, 'strerror', None) or _SQLITE_WORDS}. Nothing finished is "
                "lost: free some space, and the same command continues."
            ) from error


def located(error: Exception) -> str:
    """Return an error with the innermost line of the user's code, or of the library if no user code led to it.

    opttune's own lines are left out, because a user cannot fix them.
    """
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not Path(frame.filename).is_relative_to(_OURS)]
    theirs = [frame for frame in others if not _is_of_library(frame.filename)]
    # torch's dispatcher appends a long list below the first lines
    words = " ".join(str(error).split())
    words = words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}..."
    place = "".join(f" ({frame.filename}:{frame.lineno})" for frame in (theirs or others)[-1:])
    return f"{type(error).__name__}: {words}{place}"


def _is_of_library(file: str) -> bool:
    """Return whether a file belongs to an installed package or to Python itself."""
    path = Path(file)
    # code made at run time has no file: `<string>`, `<frozen runpy>`
    is_made = file.startswith("<") and "ipython" not in file
    return is_made or not _LIBRARY_FOLDERS.isdisjoint(path.parts) or any(map(path.is_relative_to, _STANDARD_LIBRARY))


def shows_divergence(error: BaseException) -> bool:
    """Return whether an error reports non-finite numbers, or was raised with a non-finite tensor at hand.

    Example:
        >>> shows_divergence(ValueError("loss is nan")), shows_divergence(ValueError("no such info"))
        (True, False)
    """
    return any(
        (isinstance(cause, ArithmeticError) and not isinstance(cause, ZeroDivisionError))
        or _NOT_FINITE.search(str(cause)) is not None
        or (cause.__traceback__ is not None and _holds_nan(cause))
        for cause in _causes(error)
    )


def _holds_nan(error: BaseException) -> bool:
    """Return whether a local variable at the error is NaN, because `assert isfinite(loss)` does not say so."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return any(map(_is_nan, frame.f_locals.values()))


def _is_nan(value: Any) -> bool:
    if isinstance(value, float):
        return isnan(value)
    # masks and best values so far are infinite on purpose, but no single tensor is
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        with suppress(RuntimeError, NotImplementedError):
            return bool(torch.isnan(value).any()) or (value.numel() == 1 and bool(torch.isinf(value).all()))
    return False


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _MEMORY_WORDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: a library may have wrapped the original one."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
