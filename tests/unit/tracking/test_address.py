from pathlib import Path

import mlflow.environment_variables
import pytest

from opttune.errors import InputError
from opttune.tracking.address import artifact_folder, resolve_experiment, resolve_tracking_uri, safe_uri


@pytest.mark.parametrize(
    "text",
    [
        "http://me:s3cret@host:5000/x",
        "https://s3cret@host",
        "postgresql+psycopg2://me:p%40s3cret@host/db",
        "http://me:with@s3cret@host/",
        "postgresql://host/db?user=me&password=s3cret&sslmode=require",
        "mssql://host/db?api_key=s3cret",
        "API request to http://me:s3cret@host/api/2.0 failed, and http://s3cret@other too",
    ],
)
def test_a_secret_is_masked(text):
    assert "s3cret" not in safe_uri(text)
    assert "host" in safe_uri(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:5000", "sqlite:///a/b.db", "me@example.org", "lr=0.1", ""])
def test_other_text_stays(text):
    assert safe_uri(text) == text


def test_the_address_given_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from env")
    assert resolve_tracking_uri("http://given") == "http://given"
    assert resolve_tracking_uri(None) == "http://env"
    assert resolve_experiment("given") == "given"
    assert resolve_experiment(None) == "from env"


@pytest.mark.parametrize("uri", ["nonsense://x", "mlflow.db", "localhost:5000"])
def test_what_is_no_address_is_refused(uri):
    with pytest.raises(InputError, match=r"is not an address of MLflow\. Write sqlite:///mlflow\.db"):
        resolve_tracking_uri(uri)


def test_a_database_stays_where_it_was_when_the_folder_changes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri("sqlite:///sub/own.db") == f"sqlite:///{tmp_path}/sub/own.db"
    assert resolve_tracking_uri(f"sqlite:///{tmp_path}/own.db") == f"sqlite:///{tmp_path}/own.db"


def test_without_anything_it_is_a_database_in_the_working_folder(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    assert resolve_tracking_uri(None) == f"sqlite:///{Path.cwd()}/mlflow.db"
    assert resolve_experiment(None) == "opttune"


def test_artifacts_lie_beside_the_database(monkeypatch, tmp_path):
    assert artifact_folder(f"sqlite:///{tmp_path}/mlflow.db") == tmp_path / "mlruns"
    monkeypatch.chdir(tmp_path)
    # MLflow's own default is right there, and `mlflow ui` finds it
    assert artifact_folder("sqlite:///mlflow.db") is None
    assert artifact_folder("http://host") is None
    assert artifact_folder("sqlite:///sub/mlflow.db") == Path("sub/mlruns").resolve()


def test_a_folder_of_files_is_refused_where_mlflow_writes_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert resolve_tracking_uri(None) == "file:///tmp/mlruns"
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    if hasattr(mlflow.environment_variables, "MLFLOW_ALLOW_FILE_STORE"):
        with pytest.raises(InputError, match=r"sqlite:///mlflow.db.*opttune sync STUDY --tracking-uri"):
            resolve_tracking_uri(None)
    assert resolve_tracking_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
