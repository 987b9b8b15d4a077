"""Commands in processes that begin with everything loaded: importing torch and Lightning takes ten seconds.

One process a session loads it all and does nothing else; each command is a fork of it. That is a separate process like
any other: with its own id, signals, output and end. What a test says of how a process starts needs a fresh one.
"""

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any

_MOST_BYTES = 1 << 17
_NEEDED = ("mlflow.store.tracking.sqlalchemy_store", "optuna", "pandas", "scipy.stats", "torch", "lightning.pytorch")
_UNNEEDED = ("opttune.__main__", "opttune.engines.ray", "opttune.engines.ray_task", "opttune.engines.worker")


class WarmProcess:
    """A running command, in the manner of `subprocess.Popen`.

    Args:
        arguments: What follows `python` on a command line: `-m MODULE`, `-c CODE` or a script, and its arguments.
        cwd: Its working folder.
        env: All its environment variables.
        stderr: A file for its standard error; None for a pipe.
        terminal: The descriptor of a terminal for all that it says; None for pipes.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        stderr: IO[Any] | None = None,
        terminal: int | None = None,
    ) -> None:
        (out, its_out), (err, its_err), (self._status, its_status) = os.pipe(), os.pipe(), os.pipe()
        request = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}).encode()
        its_files = [its_out, its_err if stderr is None else stderr.fileno(), its_status]
        its_files[:2] = its_files[:2] if terminal is None else [terminal] * 2
        socket.send_fds(_server(), [request], its_files)
        for file in (its_out, its_err, its_status):
            os.close(file)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.returncode: int | None = None
        self.pid = int(self._read_status())

    def _read_status(self) -> str:
        word = b""
        while not word.endswith(b"\n"):
            byte = os.read(self._status, 1)
            if not byte:
                raise RuntimeError("the process that commands are forked from has died")
            word += byte
        return word.decode()

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("command", timeout or 0)
            self.returncode = int(self._read_status())
            os.close(self._status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        texts = ["", ""]

        def read(place: int, file: IO[str]) -> None:
            with file:
                texts[place] = file.read()

        left = [pair for pair in enumerate((self.stdout, self.stderr)) if not pair[1].closed]
        readers = [Thread(target=read, args=pair, daemon=True) for pair in left]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "WarmProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()
        self.stdout.close()
        self.stderr.close()


def run_warm(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the arguments are those of `WarmProcess`."""
    process = WarmProcess(arguments, cwd, env)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(list(arguments), process.wait(), out, err)


@cache
def _server() -> socket.socket:
    """Return the connection to the process that commands are forked from."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
    )  # fmt: skip
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(control: socket.socket) -> None:
    """Fork for each request, until the other end is closed."""
    while True:
        request, files, *_ = socket.recv_fds(control, _MOST_BYTES, 3)
        if not request:
            return
        if os.fork() == 0:
            control.close()
            _watch(json.loads(request), *files)
            return
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(request: dict[str, Any], out: int, err: int, status: int) -> None:
    """Fork the command, and tell its id and how it ended."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        for file, number in ((out, 1), (err, 2)):
            os.dup2(file, number)
            os.close(file)
        os._exit(_run(request["arguments"], request["cwd"], request["env"]))
    os.close(out)
    os.close(err)
    os.write(status, f"{pid}\n".encode())
    _, ended = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _run(arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    """Do what `python ARGUMENTS` does up to its last moment, and return its exit code.

    What follows in a fresh process is the end of all that was loaded, which takes seconds and shows nothing.
    """
    import numpy as np
    import torch

    # not as in every other command
    np.random.seed()
    torch.seed()
    # a process in the background of a shell is born with Ctrl-C ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    is_script = not arguments[0].startswith("-")
    sys.path[0] = str(Path(arguments[0]).parent) if is_script else cwd
    given = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in given if path not in sys.path]
    sys.argv = list(arguments) if is_script else arguments[1:]
    try:
        if is_script:
            runpy.run_path(arguments[0], run_name="__main__")
        elif arguments[0] == "-c":
            exec(compile(arguments[1], "<string>", "exec"), _fresh_main())
        else:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _fresh_main() -> dict[str, Any]:
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    return module.__dict__


def _load_all() -> None:
    import opttune

    for name in _NEEDED:
        importlib.import_module(name)
    for found in pkgutil.walk_packages(opttune.__path__, "opttune."):
        if found.name not in _UNNEEDED:
            importlib.import_module(found.name)


if __name__ == "__main__":
    _load_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
