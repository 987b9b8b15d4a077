"""The files of a search: the best recipe, its checkpoint, and the states of paused trials."""

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from opttune.recipe import Recipe
from opttune.searching.plan import SearchPlan, recipe_call
from opttune.searching.record import TrialRecord
from opttune.space.recipe_file import save_recipe


class SearchFiles:
    """What a search keeps in its folder.

    Args:
        plan: What the search is told.

    Attributes:
        most_bytes: The most that the states of paused trials have taken at a time.
    """

    def __init__(self, plan: SearchPlan) -> None:
        self._plan = plan
        self._folder, self._ends = plan.checkpoint_folder, plan.finalist_folder
        self.most_bytes = 0

    def end_of(self, number: int) -> Path:
        """Return where a trial's state at the end stands until it is known whether it is the best."""
        return self._ends / f"trial_{number}.ckpt"

    def pause_of(self, number: int, step: int) -> Path:
        """Return where the state of a trial that is paused at a step stands."""
        return self._folder / f"trial_{number}_step_{step}.ckpt"

    def note_size(self) -> None:
        """Look how much the states take now."""
        self.most_bytes = max(self.most_bytes, sum(path.stat().st_size for path in self._folder.glob("*.ckpt")))

    def drop_pauses(self, number: int, but_at: int | None = None) -> None:
        """Remove the states of a trial, but the one at a step."""
        kept = None if but_at is None else self.pause_of(number, but_at)
        for path in self._folder.glob(f"trial_{number}_step_*.ckpt"):
            if path != kept:
                path.unlink(missing_ok=True)

    def drop_all(self) -> None:
        """Remove every state; the search has ended."""
        for folder in (self._folder, self._ends):
            shutil.rmtree(folder, ignore_errors=True)

    def drop_strangers(self, records: Iterable[TrialRecord]) -> None:
        """Remove the states that belong to no paused or finished trial: a kill may leave some."""
        kept = set()
        for record in records:
            if record.is_paused:
                kept.add(self.pause_of(record.number, record.steps))
            elif record.value is not None:
                kept.add(self.end_of(record.number))
        for path in (*self._folder.glob("*"), *self._ends.glob("*")):
            if path not in kept:
                path.unlink(missing_ok=True)

    def keep_best(self, best: TrialRecord, before: TrialRecord | None) -> None:
        """Make a trial's recipe and state at the end those of the best.

        Args:
            best: The trial.
            before: The one that was the best until now, whose state may be asked for again.
        """
        path = self._plan.best_checkpoint_path
        if before is not None and path.exists() and not self.end_of(before.number).exists():
            self._ends.mkdir(parents=True, exist_ok=True)
            path.replace(self.end_of(before.number))
        path.unlink(missing_ok=True)
        # an earlier call of the search may have ended without it: better no state than that of another trial
        if self.end_of(best.number).exists():
            _link(self.end_of(best.number), path)
        if best.recipe is not None:
            save_recipe(best.recipe, self._plan.best_recipe_path, self._header(best, best.recipe))

    def drop_ends(self, but: Collection[int]) -> None:
        """Remove the states at the end of all trials but some; the best's own is kept in any case."""
        kept = {self.end_of(number) for number in but}
        for path in self._ends.glob("*"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _header(self, record: TrialRecord, recipe: Recipe) -> str:
        plan = self._plan
        length = ", ".join(f"{name}={value}" for name, value in plan.length.items())
        return (
            f"trial {record.number} of the study {plan.study_name}: {plan.monitor} {record.value:.6g}\n"
            f"length: {length}; seed: {plan.seed}\n"
            f"to train with it: {recipe_call(plan, recipe, plan.best_recipe_path.name)}"
        )


def _link(source: Path, target: Path) -> None:
    """Make a file stand in a second place, without a copy where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
