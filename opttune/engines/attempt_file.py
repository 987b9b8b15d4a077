"""An attempt as files, for a separate process that trains it.

    workload folder   workload.json, objects.pkl      once for a search: the user's model and data
    attempt folder    attempt.json, trainer.pkl       the attempt, and its workload
                      -> messages.jsonl, outcome.json its reports during the training, and its result

Text references such as `train.py:Net` stay text. Python objects are pickled: the files lie in a private folder of one
search, and only processes of the same user write and read them.
"""

import json
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import cloudpickle

from opttune import errors
from opttune.catalog.lookup import add_missing, registered_rows
from opttune.errors import InputError, OpttuneError
from opttune.guard.rules import Guard
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.references import load_reference
from opttune.shared_folder import write_whole
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload

ATTEMPT, TRAINER, WORKLOAD, OBJECTS = "attempt.json", "trainer.pkl", "workload.json", "objects.pkl"
MESSAGES, OUTCOME = "messages.jsonl", "outcome.json"
_PATHS = ("checkpoint", "resume_from", "stop_checkpoint")
_INSTEAD = {
    "model": "Pass its class, a function without arguments that makes it, or the text path/file.py:name.",
    "data": "Pass a function without arguments that makes it, or the text path/file.py:name.",
    "trainer": "Remove objects that cannot be pickled from trainer=.",
}


def save_workload(folder: Path, workload: Workload) -> None:
    """Write the model and the data for processes that may start in any folder.

    Args:
        folder: Where to write; created if missing.
        workload: The user's model and data.

    Raises:
        InputError: The model or the data cannot be pickled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "model": _absolute_reference(workload.model_reference),
        "data": _absolute_reference(workload.data_reference),
    }
    objects = {name: _pickled(name, getattr(workload, name)) for name, text in texts.items() if not text}
    objects["rows"] = _pickled("model", registered_rows())
    write_whole(folder / OBJECTS, pickle.dumps(objects))
    write_whole(folder / WORKLOAD, json.dumps({**texts, "sys_path": sys.path, "cwd": os.getcwd()}).encode())


def load_workload(folder: Path) -> Workload:
    """Read what `save_workload` wrote, and extend this process's import path by that of its writer."""
    stored = _share_imports(folder)
    objects = pickle.loads((folder / OBJECTS).read_bytes())
    parts = {name: pickle.loads(objects[name]) for name in ("model", "data") if name in objects}
    for name in ("model", "data"):
        if stored[name]:
            parts[name] = load_reference(stored[name], name.upper())
    # a file that a reference names may have registered its optimizers again
    add_missing(pickle.loads(objects["rows"]))
    return Workload(parts["model"], parts["data"], stored["model"], stored["data"])


def _share_imports(folder: Path) -> dict[str, Any]:
    """Extend this process's import path by that of a workload's writer, and return the file's content."""
    stored: dict[str, Any] = json.loads((folder / WORKLOAD).read_text())
    sys.path.extend(path for path in stored["sys_path"] if path not in sys.path)
    return stored


def working_folder(folder: Path) -> str:
    """Return the working folder of the process that wrote a workload."""
    return str(json.loads((folder / WORKLOAD).read_text())["cwd"])


def save_attempt(
    folder: Path, attempt: Attempt, workload_folder: Path, labels: Mapping[str, Any] | None = None
) -> None:
    """Write one attempt.

    Args:
        folder: Where to write; created if missing.
        attempt: What to train.
        workload_folder: Where `save_workload` has written.
        labels: What identifies the attempt for a human reader: study, trial, the key of its run in MLflow.

    Raises:
        InputError: An argument of the Trainer cannot be pickled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MESSAGES, OUTCOME):
        (folder / name).unlink(missing_ok=True)
    plain = {name: value for name, value in attempt.trainer.items() if _is_plain(value)}
    objects = {name: value for name, value in attempt.trainer.items() if name not in plain}
    write_whole(folder / TRAINER, _pickled("trainer", objects))
    stored = {
        **{field.name: getattr(attempt, field.name) for field in fields(Attempt)},
        "recipe": attempt.recipe and attempt.recipe.to_dict(),
        "guard": attempt.guard and asdict(attempt.guard),
        **{name: _absolute(getattr(attempt, name)) for name in _PATHS},
        "trainer": plain,
        "workload": str(workload_folder.absolute()),
        "labels": dict(labels or {}),
    }
    write_whole(folder / ATTEMPT, json.dumps(stored, indent=1).encode())


def load_attempt(folder: Path) -> tuple[Attempt, Path]:
    """Read what `save_attempt` wrote.

    Returns:
        The attempt, and the folder of its workload.
    """
    stored = json.loads((folder / ATTEMPT).read_text())
    del stored["labels"]
    workload_folder = Path(stored.pop("workload"))
    if (workload_folder / WORKLOAD).exists():
        # a callback may come from a module of the user
        _share_imports(workload_folder)
    objects = pickle.loads((folder / TRAINER).read_bytes())
    for name in _PATHS:
        stored[name] = stored[name] and Path(stored[name])
    stored["recipe"] = stored["recipe"] and Recipe.from_dict(stored["recipe"])
    stored["guard"] = stored["guard"] and Guard(**stored["guard"])
    return Attempt(**{**stored, "trainer": {**stored["trainer"], **objects}}), workload_folder


def result_message(result: Outcome | OpttuneError) -> dict[str, Any]:
    """Return the result of an attempt as plain values, for `read_result`.

    Example:
        >>> read_result(result_message(InputError("no such metric")))
        InputError('no such metric')
    """
    if isinstance(result, Outcome):
        return {"outcome": result.to_dict()}
    return {"error": [type(result).__name__, str(result)]}


def read_result(message: Mapping[str, Any]) -> Outcome | OpttuneError:
    """Return the result that `result_message` was given."""
    if "outcome" in message:
        return Outcome.from_dict(message["outcome"])
    name, text = message["error"]
    kind = getattr(errors, name, OpttuneError)
    return kind(text) if isinstance(kind, type) and issubclass(kind, OpttuneError) else OpttuneError(text)


def save_result(folder: Path, result: Outcome | OpttuneError, of_rank: str = "") -> None:
    """Write the result of an attempt atomically; the file name of a further rank ends with its number."""
    write_whole(folder / f"{OUTCOME}{of_rank and f'.rank{of_rank}'}", json.dumps(result_message(result)).encode())


def load_result(folder: Path) -> Outcome | OpttuneError | None:
    """Return the result of an attempt, or None before there is one."""
    path = folder / OUTCOME
    return read_result(json.loads(path.read_text())) if path.exists() else None


def _pickled(name: str, value: Any) -> bytes:
    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as err:  # the user's objects may raise anything
        raise InputError(
            f"{name} cannot be sent to a worker process: {type(err).__name__}: {err}. {_INSTEAD[name]} "
            "Or train in this process: engine='inline' (--engine inline)."
        ) from None
    return data


def _absolute_reference(text: str) -> str:
    """Return a reference that is also valid in another folder."""
    place, colon, name = text.rpartition(":")
    return f"{Path(place).absolute()}{colon}{name}" if place.endswith(".py") else text


def _absolute(path: Path | None) -> str | None:
    # the process that trains may run in another folder
    return None if path is None else str(path.absolute())


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
