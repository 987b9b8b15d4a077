"""The address of MLflow, and how to print it without its password."""

import os
import re
from pathlib import Path

from opttune.errors import InputError

_KNOWN = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:|https?://|file:|databricks|uc:")
_USER_INFO = re.compile(r"(?<=://)[^/\s@]+(?:@[^/\s@]+)*@")
_SECRET_ARGUMENT = re.compile(r"(?i)([?&;](?:[\w-]*(?:password|passwd|token|secret|api_?key))=)[^&;\s'\"]+")


def resolve_tracking_uri(tracking_uri: str | None) -> str:
    """Return MLflow's address: the given one, else `MLFLOW_TRACKING_URI`, else a database in the working folder.

    The path of a sqlite database is made absolute, so that it survives a change of the working folder.

    Raises:
        InputError: MLflow does not support this kind of address, or no longer does.

    Example:
        >>> resolve_tracking_uri("http://127.0.0.1:5000")
        'http://127.0.0.1:5000'
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if not _KNOWN.match(uri):
        raise InputError(
            f"the tracking URI {safe_uri(uri)!r} is not an address of MLflow. Write sqlite:///mlflow.db for a "
            "database, or http://127.0.0.1:5000 for a server."
        )
    if uri.startswith("file:"):
        _refuse_files(uri)
    path = database_path(uri)
    if path is None or path.is_absolute():
        return uri
    return uri.replace(f"sqlite:///{path}", f"sqlite:///{path.absolute()}", 1)


def _refuse_files(uri: str) -> None:
    # only for such an address: importing it takes a second
    from mlflow import environment_variables

    allowed = getattr(environment_variables, "MLFLOW_ALLOW_FILE_STORE", None)
    if allowed is not None and not allowed.get():
        raise InputError(
            f"this version of MLflow cannot write to a folder of files, as in the tracking URI {uri!r}: give a "
            "database (--tracking-uri sqlite:///mlflow.db) or a server, or set MLFLOW_ALLOW_FILE_STORE=true. To "
            "deliver waiting data of an earlier search elsewhere: opttune sync STUDY --tracking-uri sqlite:///mlflow.db"
        )


def resolve_experiment(experiment: str | None) -> str:
    """Return the experiment's name: the given one, else `MLFLOW_EXPERIMENT_NAME`, else `opttune`."""
    return experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "opttune"


def safe_uri(text: str) -> str:
    """Mask user, password and token in every address in a text.

    Example:
        >>> safe_uri("postgresql://me:secret@host/db?sslpassword=x&sslmode=require")
        'postgresql://***@host/db?sslpassword=***&sslmode=require'
        >>> safe_uri("http://127.0.0.1:5000")
        'http://127.0.0.1:5000'
    """
    return _SECRET_ARGUMENT.sub(r"\1***", _USER_INFO.sub("***@", text))


def database_path(tracking_uri: str) -> Path | None:
    """Return the file of a sqlite database, else None."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    path = tracking_uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if path and not path.startswith((":memory:", "file:")) else None


def artifact_folder(tracking_uri: str) -> Path | None:
    """Return `mlruns` beside a sqlite database outside the working folder, else None.

    MLflow's own default is the working folder of the process that made the experiment, far from the database.
    """
    path = database_path(tracking_uri)
    if path is None:
        return None
    folder = path.resolve().parent
    return None if folder == Path.cwd() else folder / "mlruns"
