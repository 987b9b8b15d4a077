"""`FrozenStudy`: a stored search, read as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from opttune.errors import InputError
from opttune.job import Role
from opttune.outcome import Outcome
from opttune.recipe import Recipe
from opttune.space.model import SettledSpace, Space
from opttune.storages.find_study import StudyLocation, find_study
from opttune.storages.records import ANSWERED, CONFIRMED, ORIGIN, PARENT_KEY, SPACE, SPEC, STATUS, STEP_SECONDS
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig, read_mode
from opttune.study.metadata import StudyMetadata
from opttune.study.selection import baseline_record, best_of, expected_values
from opttune.study.step_costs import StepCosts
from opttune.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class FrozenStudy:
    """A search, as stored in its study.

    Attributes:
        config: The configuration of the search, as far as it is known.
        store: The open study.
        total_steps: Optimizer steps of the full length.
        records: All trials, in their order.
        runs: All auxiliary runs: the baseline, replicates and confirmations.
        steps_spent: Optimizer steps of the whole search.
        origin: Further arguments of the search, and facts about the model.
        run_keys: Number of a trial -> the key of its run in tracking.
        parent_key: The key of the search in tracking; None if it wrote nothing.
        status: The final status of the search's MLflow run.
        confirmed: The candidates and seeds of a verdict; empty before one.
    """

    config: SearchConfig
    store: StudyStore
    total_steps: int
    records: tuple[TrialRecord, ...]
    runs: tuple[TrialRecord, ...]
    steps_spent: int
    origin: StudyMetadata
    run_keys: Mapping[int, str]
    parent_key: str | None
    status: str
    confirmed: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.config.study_name

    @property
    def space(self) -> Space:
        """The space of the search."""
        return self.config.space

    @property
    def study(self) -> optuna.Study:
        """Optuna's study."""
        return self.store.study

    @property
    def seconds_spent(self) -> float:
        """Wall time of all trainings of the search, without those of a verdict."""
        paid = [run for run in self.runs if run.role is not Role.CONFIRMATION]
        return sum(record.seconds for record in (*self.records, *paid))

    @property
    def baseline(self) -> Outcome | None:
        """The outcome of the module's own optimizer; None if it was not trained, or has not ended."""
        found = baseline_record(self.records, self.runs)
        return None if found is None else found.outcome

    @property
    def baseline_source(self) -> str:
        """The source of the baseline's value, if it was not trained here; else empty."""
        found = baseline_record(self.records, self.runs)
        return "" if found is None else found.source

    @property
    def best(self) -> TrialRecord | None:
        """The best trial, or the baseline if none beats it; None if no trial finished with a value."""
        return best_of(self.records, baseline_record(self.records, self.runs), self.config.mode)

    @property
    def ranked(self) -> list[TrialRecord]:
        """The trials with a value, ordered by the value to expect on any seed, the best first."""
        expected = expected_values(self.records, self.config.mode)
        sign = 1 if self.config.mode == "min" else -1
        valued = [record for record in self.records if record.number in expected]
        return sorted(valued, key=lambda record: (sign * expected[record.number], record.number))

    def recipe_of(self, number: int | None) -> tuple[TrialRecord, Recipe]:
        """Return a trial and its recipe.

        Args:
            number: Its number; None for the best.

        Raises:
            InputError: There is no such trial, or none finished with a value.
        """
        record = self.best if number is None else next((r for r in self.records if r.number == number), None)
        if record is None or record.recipe is None:
            what = (
                "no trial of it finished with a value" if number is None else f"it has no trial {number} with a recipe"
            )
            raise InputError(f"STUDY: {self.name}: {what}.")
        return record, record.recipe


def load_study(study: str | Path, storage: str | None = None) -> FrozenStudy:
    """Find a search by the name of its study or by its folder, and read it.

    Args:
        study: Name or folder.
        storage: Optuna storage URL.

    Raises:
        InputError: There is no such study, it is not one of opttune's, or it has started nothing yet.
    """
    return read_study(find_study(study, storage))


def read_study(found: StudyLocation) -> FrozenStudy:
    """Read a search.

    Raises:
        InputError: It has started nothing yet.
    """
    spec = found.study.user_attrs[SPEC]
    if SPACE not in found.study.user_attrs:
        raise InputError(f"STUDY: the search {found.study.study_name!r} ended before its first trial.")
    store = StudyStore(found.study.study_name, found.storage, spec)
    attributes = store.study.user_attrs
    total_steps = int(attributes[SPACE]["full_length_steps"])
    origin = StudyMetadata.from_dict(attributes.get(ORIGIN, {}))
    return FrozenStudy(
        config=_config(found, spec, store.stored_space, origin).with_races(store.races),
        store=store,
        total_steps=total_steps,
        records=tuple(store.records()),
        runs=tuple(store.runs()),
        steps_spent=store.steps_spent,
        origin=origin,
        run_keys=store.trials.run_keys(),
        parent_key=attributes.get(PARENT_KEY),
        status=str(attributes.get(STATUS, "FINISHED")),
        confirmed=attributes.get(CONFIRMED, {}),
    )


def keep_status(study: optuna.Study, status: str) -> None:
    """Store the final status of a search's MLflow run."""
    study.set_user_attr(STATUS, status)


def is_first_answer(study: optuna.Study) -> bool:
    """Return whether no search of this study has written its answer as params, and note that one has now."""
    is_first = ANSWERED not in study.user_attrs
    study.set_user_attr(ANSWERED, True)
    return is_first


def _config(
    found: StudyLocation, spec: Mapping[str, Any], settled: SettledSpace, origin: StudyMetadata
) -> SearchConfig:
    return SearchConfig(
        space=settled.space,
        monitor=spec["monitor"],
        mode=read_mode(spec["mode"]),
        length=spec["length"],
        study_name=found.study.study_name,
        out_dir=found.folder,
        budget=origin.budget,
        seed=spec["seed"],
        # the settled space is in the study itself; a search from Python may lack the rest
        trainer={**origin.trainer, **spec["trainer"]},
        shipped_space=spec["space"] if isinstance(spec["space"], str) else "",
        space_notes=settled.notes,
        space_warnings=settled.warnings,
        references={"model": origin.model, "data": origin.data, "project": origin.project},
        pauses=origin.pauses,
        with_baseline=origin.with_baseline,
        budget_unit=spec.get("budget_unit", "steps"),
        step_costs=StepCosts.of(found.study.user_attrs.get(STEP_SECONDS, {})),
    )
