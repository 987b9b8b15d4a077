"""Start an engine by its name."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opttune.engines.devices import devices_per_trial, worker_environments
from opttune.engines.engine import ENGINE_FOLDER, Engine
from opttune.engines.inline import InlineEngine, train_here
from opttune.engines.local import LocalEngine
from opttune.shared_folder import files_in
from opttune.training.stop import Stop
from opttune.training.workload import Workload


def start_engine(
    name: str,
    workers: int,
    workload: Workload,
    folder: Path,
    trainer: Mapping[str, Any],
    stop: Stop,
    ray_address: str | None = None,
) -> Engine:
    """Start an engine, which the caller must close.

    Args:
        name: `inline`, `local` or `ray`.
        workers: Trainings at a time.
        workload: The user's model and data.
        folder: The search's folder.
        trainer: Arguments of the Trainer of every training.
        stop: Checked after each step of a training in this process.
        ray_address: Address of a running Ray cluster.

    Raises:
        OpttuneError: It cannot be started.
    """
    if name == "inline":
        return InlineEngine(train_here(workload, stop))
    if name == "ray":
        # an optional dependency, and slow to import
        from opttune.engines.ray import RayEngine

        return RayEngine(workload, folder, workers, trainer, ray_address)
    environments = worker_environments(workers, trainer)
    # a worker that sees only its own devices numbers them from 0
    sees_own = "devices" in trainer and any("CUDA_VISIBLE_DEVICES" in environment for environment in environments)
    return LocalEngine(workload, folder, environments, {"devices": devices_per_trial(trainer)} if sees_own else None)


def remove_stale_engines(out_dir: Path) -> None:
    """Remove the files of killed searches; call it only if no other search uses the folder."""
    for left in files_in(out_dir):
        if left.name.startswith(ENGINE_FOLDER):
            shutil.rmtree(left, ignore_errors=True)
