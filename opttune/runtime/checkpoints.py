"""The files of a search: the best recipe, its checkpoint, and the states of paused trials."""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock

from opttune.errors import InputError
from opttune.job import Role
from opttune.recipe import Recipe
from opttune.shared_folder import files_in
from opttune.space.recipe_file import save_recipe
from opttune.storages.open_storage import LOCK_NAME
from opttune.study.config import SearchConfig, recipe_call
from opttune.trial_record import TrialRecord


def make_folder(out_dir: Path) -> list[Path]:
    """Make the folder of a search and test that it is writable; other processes may make it at the same time.

    Returns:
        The new folders, the innermost first.

    Raises:
        InputError: The folder cannot be made, or is not writable.
    """
    new = [folder for folder in (out_dir, *out_dir.parents) if not folder.exists()]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out_dir):
            pass
    except OSError as err:
        raise InputError(
            f"cannot write to the folder {out_dir}: {err.strerror}. Choose another with out_dir= or --out-dir."
        ) from None
    return new


def remove_unused(folders: Iterable[Path]) -> None:
    """Remove folders that `make_folder` made, if a search has left nothing in them but its lock.

    Args:
        folders: The folders, the innermost first.
    """
    for folder in folders:
        lock = folder / LOCK_NAME
        with suppress(OSError):
            if list(folder.iterdir()) == [lock]:
                lock.unlink()
            folder.rmdir()


_PREFIXES = tuple(f"{role}_" for role in Role)
"""Prefix of the names of checkpoints."""


class CheckpointStore:
    """The files that a search keeps in its folder.

    Args:
        config: The configuration of the search.
        is_shared: Whether other processes may keep their states in the same folder.

    Attributes:
        most_bytes: The largest total size of the states of paused trials so far.
    """

    def __init__(self, config: SearchConfig, is_shared: bool = False) -> None:
        self._config, self._is_shared = config, is_shared
        self._folder, self._final_folder = config.checkpoint_folder, config.final_folder
        self.most_bytes = 0
        self._sizes: dict[str, int] = {}

    def final_path(self, record: TrialRecord) -> Path:
        """Return the path of a trial's final checkpoint, which is kept until the best trial is known."""
        return self._final_folder / f"{record.name}.ckpt"

    def rung_path(self, record: TrialRecord, step: int) -> Path:
        """Return the checkpoint path of a training that is paused at a rung."""
        return self._folder / f"{record.name}_step_{step}.ckpt"

    def interrupt_path(self, record: TrialRecord) -> Path:
        """Return the checkpoint path of a training interrupted between two rungs."""
        return self._folder / f"{record.name}_step_stopped.ckpt"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from choosing a best at the same time."""
        if not self._is_shared:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / ".best.lock"):
            yield

    def note_size(self) -> None:
        """Measure the current size of the states."""
        states = [file for file in files_in(self._folder) if file.name.endswith(".ckpt")]
        # a slow disk may have many; each is measured once
        self._sizes = {file.name: self._sizes.get(file.name) or _size_of(file) for file in states}
        self.most_bytes = max(self.most_bytes, sum(self._sizes.values()))

    def drop_pauses(self, record: TrialRecord, but_at: int | None = None) -> None:
        """Delete the checkpoints of a paused training, except the one at a step."""
        kept = "" if but_at is None else self.rung_path(record, but_at).name
        for file in files_in(self._folder):
            if file.name.startswith(f"{record.name}_step_") and file.name.endswith(".ckpt") and file.name != kept:
                Path(file).unlink(missing_ok=True)

    def drop_all(self) -> None:
        """Delete all checkpoints; the search has ended."""
        for folder in (self._folder, self._final_folder):
            shutil.rmtree(folder, ignore_errors=True)

    def remove_orphans(self, records: Sequence[TrialRecord]) -> None:
        """Delete orphaned checkpoints left by killed processes.

        Args:
            records: All trials and auxiliary runs.
        """
        waiting = [record for record in records if record.outcome is None]
        # a training that was stopped in its look has the state of the rung
        kept = {self.rung_path(record, step) for record in waiting for step in (record.steps, record.stopped_at)}
        kept |= {self.interrupt_path(record) for record in records if record.saved_steps > record.steps}
        kept |= {self.final_path(record) for record in records if record.value is not None}
        # a running training may have a half-written checkpoint
        running = tuple(f"{record.name}{end}" for record in records if record.is_running for end in ("_", "."))
        for file in (*files_in(self._folder), *files_in(self._final_folder)):
            is_training = file.name.startswith(_PREFIXES) and not file.name.startswith(running)
            if is_training and Path(file) not in kept:
                Path(file).unlink(missing_ok=True)

    def keep_best(self, best: TrialRecord, before: TrialRecord | None) -> None:
        """Store a trial's recipe and final state as those of the best.

        Args:
            best: The trial.
            before: The previous best, whose state may be needed again.
        """
        path = self._config.best_checkpoint_path
        if before is not None and path.exists() and not self.final_path(before).exists():
            self._final_folder.mkdir(parents=True, exist_ok=True)
            _link(path, self.final_path(before))
        if self.final_path(best).exists():
            _link(self.final_path(best), path)
        else:
            # an earlier call of the search may have ended without the state: no state is better than another trial's
            path.unlink(missing_ok=True)
        if best.recipe is not None:
            save_recipe(best.recipe, self._config.best_recipe_path, self._header(best, best.recipe))

    def drop_finals(self, but: Collection[TrialRecord]) -> None:
        """Delete the final checkpoints of all trials, except some; `best.ckpt` is always kept."""
        kept = {record.name for record in but}
        for file in files_in(self._final_folder):
            # a running trial may have a half-written one, under a longer name
            if _stem(file) not in kept:
                Path(file).unlink(missing_ok=True)

    def _header(self, record: TrialRecord, recipe: Recipe) -> str:
        config = self._config
        full = record.outcome.total_steps if record.outcome else 0
        length = ", ".join(f"{name}={value}" for name, value in config.length_of(recipe, full).items())
        return (
            f"{record.title} of the study {config.study_name}: {config.monitor} {record.value:.6g}\n"
            f"length: {length}; seed: {config.seed}\n"
            f"to train with it: {recipe_call(config, recipe, config.best_recipe_path.name)}"
        )


def _size_of(file: os.DirEntry[str]) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        # another process has removed it since
        return 0


def _link(source: Path, target: Path) -> None:
    """Link a file to a second place atomically; copy it if the file system has no links."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
    # if both were already links to one file, this has done nothing
    part.unlink(missing_ok=True)


def _stem(file: os.DirEntry[str]) -> str:
    """Return a name up to its first point, which is the same for `trial_1.ckpt` and `trial_1.ckpt.part`."""
    return file.name.partition(".")[0]
