"""A PostgreSQL server of the tests' own, where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USER = "postgres"


def _programs() -> Path | None:
    """Return the folder of the server's programs: Debian's are not on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server that is reached through a socket alone; its address is that of an empty database."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'opttune[test]')")
    folder = Path(tempfile.mkdtemp(prefix="opttune-pg-", dir="/tmp"))
    # it refuses to run as root
    user = {"user": _USER, "group": _USER} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, _USER, _USER)
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", _USER, "-N"],
        check=True, capture_output=True, cwd=folder, **user,
    )  # fmt: skip
    control = [programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=folder, **user)
    try:
        yield f"postgresql+psycopg://{_USER}@/{_USER}?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder, **user)
        shutil.rmtree(folder, ignore_errors=True)
