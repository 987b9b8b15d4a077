import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from opttune.errors import DiskFullError
from opttune.guard.callback import GuardCallback
from opttune.outcome import StopReason
from opttune.training import errors
from opttune.training.errors import located, raise_if_disk_is_full, reason_of
from tests.support import models as m


def caused_by(cause: BaseException) -> Exception:
    try:
        raise ValueError("a library's own words") from cause
    except ValueError as err:
        return err


LACK = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", LACK, ids=repr)
def test_too_little_memory_is_told_from_other_errors_also_where_a_library_wraps_it(error: Exception) -> None:
    assert reason_of(error) is StopReason.OUT_OF_MEMORY
    assert reason_of(caused_by(error)) is StopReason.OUT_OF_MEMORY


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), ValueError("out of memory"), OSError(28, "full")])
def test_other_errors_are_failures(error: Exception) -> None:
    assert reason_of(error) is StopReason.FAILED


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_with_what_to_do(number: int) -> None:
    with pytest.raises(DiskFullError, match=r"the disk is full \(/x/a.ckpt\).*free some space"):
        raise_if_disk_is_full(caused_by(OSError(number, "No space left on device", "/x/a.ckpt")))


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no such file"), ValueError("28")])
def test_no_other_error_is_taken_for_a_full_disk(error: Exception) -> None:
    raise_if_disk_is_full(error)


def test_errors_that_lead_to_one_another_in_a_circle_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert reason_of(first) is StopReason.FAILED


def test_an_error_while_a_parameter_is_not_finite_is_a_divergence() -> None:
    model = m.Net()
    assert not GuardCallback().has_diverged(model)
    model.net[0].weight.data[0] = float("nan")
    assert GuardCallback().has_diverged(model)


def error_of(call: Callable[[], Any]) -> Exception:
    try:
        call()
    except Exception as err:
        return err
    raise AssertionError("it raised nothing")


def run_as(file: Path, text: str, **names: Any) -> Exception:
    """Return the error of a function `call` of a text, as if it stood in a file and nothing of this one led to it."""
    exec(compile(text, str(file), "exec"), names)
    error = error_of(names["call"])
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    return error


OURS = Path(errors.__file__).with_name("attempt.py")


def test_an_error_is_placed_at_the_users_innermost_line_whatever_raised_it(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    text = "def call():\n    return json.loads('{')"
    assert located(run_as(net, text, json=json)).endswith(f"({net}:2)")

    names: dict[str, Any] = {"json": json}
    exec(compile(text, str(net), "exec"), names)
    assert located(run_as(OURS, "def call():\n    theirs()", theirs=names["call"])).endswith(f"({net}:2)")


def test_an_error_that_no_line_of_the_users_led_to_is_placed_in_the_library() -> None:
    assert json.decoder.__file__ in located(run_as(OURS, "def call():\n    json.loads('{')", json=json))
    assert located(run_as(OURS, "def call():\n    {}['x']")) == "KeyError: 'x'"
