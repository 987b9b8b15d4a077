"""Whether opttune works on a GPU: ten checks, each in a process with its own time limit, and one table.

    python benchmarks/on_gpu.py                    # on the GPU; eight minutes at most
    python benchmarks/on_gpu.py --only c,f         # some of the checks
    python benchmarks/on_gpu.py --device cpu       # the same in small on any machine
    python benchmarks/on_gpu.py --json found.json  # what was found, for docs/gpu.md

A check that fails, hangs or dies does not stop the others. What a CPU cannot show is marked `not on cpu`. It needs the
extras `examples`, `8bit` and `system`, no network, and no argument. It returns 0 if all is well, 1 if a check failed.
"""

import argparse
import json
import logging
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# before torch: kernels that give the same numbers each time, and a count of GPUs that does not start CUDA
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
# each check takes over this process's path
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "examples"))

from gpu_bench.rows import Place, Row, table_of

from opttune.version import __version__


@dataclass(frozen=True)
class Check:
    """A function of `gpu_bench`, what it is about, and how many seconds it may take on a GPU."""

    run: str | Callable[[Place], Iterable[Row]]
    about: str
    seconds: int


CHECKS = {
    "a": Check("training.searches", "searches in all precisions", 150),
    "b": Check("training.pauses", "pauses", 30),
    "c": Check("training.guard", "the guard", 30),
    "d": Check("training.overhead", "overhead", 60),
    "e": Check("resources.optimizers", "every optimizer", 60),
    "f": Check("resources.out_of_memory", "out of memory", 20),
    "g": Check("resources.flat_memory", "memory over many trials", 30),
    "h": Check("resources.workers", "two workers", 40),
    "i": Check("resources.killed_worker", "a killed worker", 40),
    "j": Check("resources.system_metrics", "system metrics", 20),
}


def run_check(name: str, device: str, checks: dict[str, Check] | None = None) -> list[Row]:
    """Run a check in a process of its own; what goes wrong there is a row of its own."""
    check = (CHECKS if checks is None else checks)[name]
    # a CPU may be busy: there a limit is for checks that hang
    limit = check.seconds if device != "cpu" else 10 * check.seconds
    context = server()
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(check.run, device, send))
    began = time.monotonic()
    process.start()
    send.close()
    rows, problem = [], f"not done after {limit} s"
    try:
        while receive.poll(max(0.0, began + limit - time.monotonic())):
            found = receive.recv()
            if isinstance(found, Row):
                rows.append(found)
                continue
            problem = found if isinstance(found, str) else ""
            break
    except EOFError:
        process.join(5)
        problem = f"its process ended with exit code {process.exitcode}"
    _end(process)
    if problem:
        return [*rows, Row(name, check.about, f"ends within {limit} s", problem, False)]
    print(f"  {name} {check.about}: {time.monotonic() - began:.0f} s, {found:.0f} s of processors", file=sys.stderr)
    return rows


@cache
def server() -> Any:
    """Return what starts the processes: a server that has imported all modules, and never touches the GPU."""
    context = multiprocessing.get_context("forkserver")
    # the server knows no other path when it imports them
    places = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    context.set_forkserver_preload(["gpu_bench.resources", "gpu_bench.training"])
    # importing takes seconds, which are no check's
    first = context.Process(target=time.monotonic)
    first.start()
    first.join()
    return context


def _in_child(run: str | Callable[[Place], Iterable[Row]], device: str, send: Connection) -> None:
    # so that what it starts can be ended with it, and ends with the script
    os.setsid()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="opttune-gpu-") as name:
        os.chdir(name)
        try:
            if isinstance(run, str):
                module, _, function = run.partition(".")
                run = getattr(import_module(f"gpu_bench.{module}"), function)
            # one by one: what was found counts, whatever comes after it
            for row in run(Place(device, Path(name))):
                send.send(row)
            send.send(sum(os.times()[:4]))
        except BaseException as err:  # of whatever kind: it is a row of the table
            traceback.print_exc()
            send.send(f"{type(err).__name__}: {' '.join(str(err).split())[:300]}")


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def _end(process: Any) -> None:
    """End a check's process, and what it has started."""
    process.join(5)
    if process.is_alive():
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
        process.join()


def describe(device: str) -> str:
    versions = f"opttune {__version__}, torch {version('torch')}, Python {platform.python_version()}"
    return f"{versions}; {device if device == 'cpu' else f'{count_gpus()} GPUs'}"


def count_gpus() -> int:
    # it asks the driver; CUDA stays untouched
    import torch

    return torch.cuda.device_count()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--only", default=",".join(CHECKS), metavar="a,b", help="checks to run")
    parser.add_argument("--json", metavar="FILE", help="write what was found")
    options = parser.parse_args()
    names = [name.strip() for name in options.only.split(",") if name.strip()]
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        parser.error(f"--only: unknown checks {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    if options.device == "gpu" and count_gpus() == 0:
        parser.error(f"no CUDA device: torch {version('torch')} finds none. --device cpu runs the checks in small.")
    began, rows = time.monotonic(), []
    for name in names:
        rows += run_check(name, options.device)
    failed = [row for row in rows if row.ok is False]
    skipped = sum(row.ok is None for row in rows)
    print(table_of(rows))
    print(
        f"{describe(options.device)}: {len(rows) - len(failed) - skipped} ok, {len(failed)} failed, "
        f"{skipped} not on this device, {time.monotonic() - began:.0f} s"
    )
    if options.json:
        found = {"about": describe(options.device), "rows": [row.to_dict() for row in rows]}
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
