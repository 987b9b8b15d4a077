"""Commands in processes that begin with everything loaded: importing torch and Lightning takes ten seconds.

One process a session loads it all and does nothing else; each command is a fork of it. That is a separate process like
any other: with its own id, signals, output and end. What a test says of how a process starts needs a fresh one.

The workers and ranks that a command starts are forks as well: its `sys.executable` is `warm_python`.
"""

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any, NamedTuple

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
        its_in = os.open(os.devnull, os.O_RDONLY)
        request = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "apart": False}).encode()
        its_files = [its_in, its_out, its_err if stderr is None else stderr.fileno(), its_status]
        its_files[1:3] = its_files[1:3] if terminal is None else [terminal] * 2
        socket.send_fds(_server().control, [request], its_files)
        for file in (its_in, its_out, its_err, its_status):
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


def warm_python() -> str:
    """Return a program that is called as Python, and forks where it is to run a module of opttune's."""
    return str(_server().python)


class _Server(NamedTuple):
    """The connection to the process that commands are forked from, and the program that asks it for a fork."""

    control: socket.socket
    python: Path


@cache
def _server() -> _Server:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root, folder = Path(__file__).parents[2], Path(tempfile.mkdtemp(prefix="opttune-warm-"))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(folder / "socket"))
    listener.listen(64)
    python = _write_program(folder)
    numbers = [its.fileno(), listener.fileno()]
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, numbers), python],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, pass_fds=numbers, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    its.close()
    listener.close()

    def end() -> None:
        ours.close()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return _Server(ours, python)


def _write_program(folder: Path) -> Path:
    program = folder / "python"
    # isolated and without site-packages it starts in milliseconds
    first = f"#!{sys.executable} -IS\nPYTHON, SOCKET = {sys.executable!r}, {str(folder / 'socket')!r}\n"
    program.write_text(first + Path(__file__).with_name("warm_program.py").read_text())
    program.chmod(0o755)
    return program


def _serve(control: socket.socket, listener: socket.socket) -> None:
    """Fork for each request, until the other end is closed."""
    while True:
        ready, _, _ = select.select([control, listener], [], [])
        asks = control if control in ready else listener.accept()[0]
        request, files, *_ = socket.recv_fds(asks, _MOST_BYTES, 4)
        if asks is not control:
            asks.close()
        elif not request:
            return
        if request and os.fork() == 0:
            control.close()
            listener.close()
            _watch(json.loads(request), *files)
            return
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(request: dict[str, Any], *files: int) -> None:
    """Fork the command, and tell its id and how it ended; end it where nobody is left to be told."""
    *its_files, status = files
    pid = os.fork()
    if pid == 0:
        os.close(status)
        if request["apart"]:
            # ranks and workers end all of their group
            os.setsid()
        for number, file in enumerate(its_files):
            os.dup2(file, number)
            os.close(file)
        os._exit(_run(request["arguments"], request["cwd"], request["env"]))
    for file in its_files:
        os.close(file)
    with suppress(BrokenPipeError):
        os.write(status, f"{pid}\n".encode())
        ended = _await_end(pid, status, request["apart"])
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _await_end(pid: int, status: int, is_apart: bool) -> int:
    awaited = select.poll()
    awaited.register(os.pidfd_open(pid), select.POLLIN)
    # that nobody reads is told unasked
    awaited.register(status, 0)
    if status in [number for number, _ in awaited.poll()]:
        with suppress(ProcessLookupError):
            (os.killpg if is_apart else os.kill)(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _run(arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    """Do what `python ARGUMENTS` does up to its last moment, and return its exit code.

    What follows in a fresh process is the end of all that was loaded, which takes seconds and shows nothing.
    """
    import numpy as np
    import torch
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    # not as in every other command
    np.random.seed()
    torch.seed()
    # a process in the background of a shell is born with Ctrl-C ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # Lightning reads it from there when it is loaded
    rank_zero_only.rank = _get_rank() or 0
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
    from tests.support.packages import ask_once

    for name in _NEEDED:
        importlib.import_module(name)
    for found in pkgutil.walk_packages(opttune.__path__, "opttune."):
        if found.name not in _UNNEEDED:
            importlib.import_module(found.name)
    ask_once()


if __name__ == "__main__":
    _load_all()
    sys.executable = sys.argv[3]
    _serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3]))
