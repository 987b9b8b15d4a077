"""The origin of a search's result: the commit of the user's code, the package versions, and the data."""

import inspect
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from opttune.project.read import ProjectModel
from opttune.trainer.namespaces import is_data_module
from opttune.training.data_facts import DataFacts
from opttune.training.workload import Workload
from opttune.version import __version__

_PACKAGES = ("torch", "lightning", "pytorch-lightning", "optuna", "mlflow", "pytorch_optimizer")
_GIT_SECONDS = 5.0


def source_tags(model: Any) -> dict[str, str]:
    """Return MLflow's own tags for the source of a run: the model's file and its commit.

    Args:
        model: The user's model, its class or factory.

    Returns:
        `mlflow.source.name` and, in a git repository, `mlflow.source.git.commit` and `opttune.git_changes`, which
        says whether files have changed since. Empty for a model that is not defined in a file.
    """
    path = _source_file(model)
    if path is None:
        return {}
    tags = {"mlflow.source.name": str(path), "mlflow.source.type": "LOCAL"}
    commit = _git(path.parent, "rev-parse", "HEAD")
    if commit:
        changes = _git(path.parent, "status", "--porcelain", "--untracked-files=no")
        tags |= {
            "mlflow.source.git.commit": commit,
            "opttune.git_changes": "unknown" if changes is None else "yes" if changes else "no",
        }
    return tags


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, by the names of their params.

    Example:
        >>> versions()["opttune_version"] == __version__
        True
    """
    found = {"opttune_version": __version__, "python_version": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[f"{package.replace('-', '_')}_version"] = version(package)
        except PackageNotFoundError:
            continue
    return found


def datasets(workload: Workload, data: Sequence[DataFacts]) -> list[dict[str, str]]:
    """Return the fields of MLflow's datasets: name, digest, source, profile and context.

    Args:
        workload: The user's model and data; the datasets are named after the data, or after a model that has its own.
        data: Facts about the loaders.
    """
    has_name = hasattr(workload.data, "__name__") or is_data_module(workload.data)
    # a pair of loaders has no name
    given = workload.data if has_name else workload.model
    name = given.__name__ if hasattr(given, "__name__") else type(given).__name__
    source = {"file": str(_source_file(given) or "unknown"), "reference": workload.data_reference}
    found = []
    for place, facts in enumerate(data):
        profile = json.dumps({name: value for name, value in asdict(facts).items() if value is not None})
        digest = sha256(f"{name} {place} {profile}".encode()).hexdigest()[:8]
        texts = {"name": f"{name} {facts.purpose}", "digest": digest, "profile": profile, "context": facts.purpose}
        found.append({**texts, "source_type": "code", "source": json.dumps(source)})
    return found


def _source_file(model: Any) -> Path | None:
    if isinstance(model, ProjectModel):
        return model.file
    named = model if inspect.isclass(model) or inspect.isroutine(model) else type(model)
    try:
        found = inspect.getsourcefile(named)
    except TypeError:
        return None
    return Path(found).resolve() if found and Path(found).is_file() else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
