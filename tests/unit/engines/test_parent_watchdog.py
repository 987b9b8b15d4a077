import os
import subprocess
import sys

import pytest

from opttune.engines.parent_watchdog import PARENT_PIPE, watch_parent

UP = "print('up', flush=True); import time; time.sleep(60)"
CODE = f"from opttune.engines.parent_watchdog import watch_parent; watch_parent(); {UP}"


def start(**env: str) -> "subprocess.Popen[str]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CODE], start_new_session=True, env={**os.environ, **env}, **pipes)


def test_with_its_input_the_process_ends() -> None:
    process = start(**{PARENT_PIPE: "1"})
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(30) < 0
    process.stdout.close()


def test_without_a_leash_nothing_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARENT_PIPE, raising=False)
    watch_parent()
