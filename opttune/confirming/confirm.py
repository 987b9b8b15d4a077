"""`opttune.confirm`: train the candidates of a verdict and compare them."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from opttune.arguments import choose_engine
from opttune.confirming.candidates import Candidate, choose_candidates
from opttune.confirming.policy import ConfirmationPolicy, ConfirmationReporter
from opttune.confirming.verdict import Verdict, study_verdict
from opttune.engines.devices import require_devices
from opttune.engines.engine import Engine
from opttune.engines.multi_device import inspect_on_devices
from opttune.engines.start import start_engine
from opttune.errors import InputError, ModelError, StudyError, UnsuitableOptimizerError
from opttune.guard.rules import Guard
from opttune.planning import check_trainer
from opttune.project.read import Project, load_project, read_source
from opttune.recipe import Recipe
from opttune.references import load_reference
from opttune.runtime.loop import TrainingLoop
from opttune.runtime.policy import Spent
from opttune.runtime.signals import DeferredInterrupts
from opttune.shared_folder import remove_empty
from opttune.storages.find_study import StudyLocation, find_study
from opttune.storages.open_storage import lock_folder, quiet_optuna
from opttune.storages.records import CONFIRMED, SPEC
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.frozen_study import FrozenStudy, read_study
from opttune.study.note import write_note
from opttune.study.result import SearchResult
from opttune.tracking.address import resolve_tracking_uri
from opttune.tracking.study_run import StudyRun, open_study_run
from opttune.training.attempt import Attempt
from opttune.training.workload import Workload

_LEAST_SEEDS = 2


def confirm(
    study: str | Path | SearchResult,
    model: Any = None,
    data: Any = None,
    *,
    top: int = 3,
    seeds: int = 5,
    storage: str | None = None,
    tracking_uri: str | None = None,
    trainer: Mapping[str, Any] | None = None,
    progress: bool = True,
    workers: int = 1,
    engine: str | None = None,
    ray_address: str | None = None,
) -> Verdict:
    """Train the best recipes of a search, the baseline and AdamW's default on new seeds, and compare them.

    Each is trained at full length on the same seeds, which follow the search's own two. A paired t-test compares the
    winner of the search with each of the others, with Holm's correction for their number. AdamW is left out if it
    cannot train the model. A later call does not repeat finished trainings.

    Args:
        study: The result of the search, the name of its study, or its folder.
        model: The model, as for `opttune.search`; None loads the model that the command was given.
        data: The data, as for `opttune.search`; None loads the data that the command was given.
        top: How many of the best recipes, >= 1.
        seeds: The number of seeds, >= 2. More seeds detect smaller differences.
        storage: Optuna storage URL; None for the journal file in the search's folder.
        tracking_uri: Address of MLflow; None for that of the search.
        trainer: Further arguments of the Trainer; None for those of the search.
        progress: Whether to show progress on standard error.
        workers: Trainings at a time.
        engine: Where trainings run, as for `opttune.search`; None: `inline` for one worker, else `local`.
        ray_address: Address of a running Ray cluster, for the engine `ray`, as for `opttune.search`.

    Returns:
        The verdict.

    Raises:
        OpttuneError: There is no such study, none of its trials finished, or the model or the data are unknown or
            differ from those of the search.
        KeyboardInterrupt: Ctrl-C; finished trainings are kept, and the same call resumes.
    """
    _check("top", top, 1)
    _check("seeds", seeds, _LEAST_SEEDS)
    found, trainer = _find(study, storage, trainer)
    loaded = read_study(found)
    if loaded.best is None:
        raise InputError(f"STUDY: {loaded.name}: no trial of it finished with a value, so there is nothing to confirm.")
    config = replace(_config(loaded, trainer), workers=workers, engine=choose_engine(engine, workers))
    workload = Workload(*_load(loaded, model, data))
    candidates = [each for each in choose_candidates(loaded, top) if each.label not in _left_out(loaded.confirmed)]
    policy = ConfirmationPolicy(config, loaded.total_steps, candidates, _new_seeds(config, seeds))
    interrupts = DeferredInterrupts()
    with ExitStack() as opened:
        # deferred until the end, where the folder's lock is released
        opened.enter_context(interrupts)
        opened.enter_context(nullcontext() if storage else lock_folder(found.folder))
        opened.enter_context(quiet_optuna())
        places = (found.folder, config.trainer, interrupts, ray_address)
        trains = opened.enter_context(closing(start_engine(config.engine, workers, workload, *places)))
        store = StudyStore(loaded.name, found.storage, found.study.user_attrs[SPEC], is_shared=bool(storage))
        policy, left_out = _checked(policy, loaded.best.recipe, store, workload)
        _keep_head(store, policy, workload.is_instance, _left_out(loaded.confirmed) | left_out)
        run = _open_run(loaded, found.folder, tracking_uri)
        verdict = _train(policy, store, found, trains, run, interrupts, progress)
    if run.writer.problem and progress:
        print(f"warning: {run.writer.problem}", file=sys.stderr)
    return verdict


def _checked(
    policy: ConfirmationPolicy, best: Recipe | None, store: StudyStore, workload: Workload
) -> tuple[ConfirmationPolicy, dict[str, str]]:
    """Check the model if any training is left.

    Returns:
        The policy without the candidates that cannot train the model, and their labels with the reasons.
    """
    if policy.next_action(store.records(), store.runs(), Spent(0)) is None:
        return policy, {}
    _refuse_another_model(store, policy.config, best, workload)
    reasons = {each.label: _why_untrainable(each, policy.config, workload) for each in policy.candidates}
    left_out = {label: why for label, why in reasons.items() if why}
    candidates = [each for each in policy.candidates if each.label not in left_out]
    return ConfirmationPolicy(policy.config, policy.total_steps, candidates, policy.seeds), left_out


def _refuse_another_model(store: StudyStore, config: SearchConfig, recipe: Recipe | None, workload: Workload) -> None:
    """Train one step, and compare the model and its data with those of the search.

    Raises:
        StudyError: The search was made for another model or other data.
    """
    identity = inspect_on_devices(_attempt(config, recipe), workload, steps=1).identity
    if identity is not None:
        store.refuse_another_model(identity, "Confirm it with the model and the data that it was made for.")


def _why_untrainable(candidate: Candidate, config: SearchConfig, workload: Workload) -> str:
    """Train a step of AdamW's default, which the search may not have tried; return why it does not suit the model."""
    if candidate.kind != "adamw":
        return ""
    try:
        inspect_on_devices(_attempt(config, candidate.recipe), workload, steps=1)
    except ModelError as err:
        # of another kind, such as too little memory: its trainings will show it, without an end to the others
        return str(err) if isinstance(err, UnsuitableOptimizerError) else ""
    return ""


def _left_out(confirmed: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of candidates that an earlier call has left out, with the reasons."""
    return dict(confirmed.get("left_out", {}))


def _attempt(config: SearchConfig, recipe: Recipe | None) -> Attempt:
    return Attempt(recipe, config.monitor, config.seed, {**config.trainer, **config.length}, mode=config.mode)


def _train(
    policy: ConfirmationPolicy,
    store: StudyStore,
    found: StudyLocation,
    engine: Engine,
    run: StudyRun,
    interrupts: DeferredInterrupts,
    progress: bool,
) -> Verdict:
    """Run the remaining trainings and return the verdict.

    Raises:
        StudyError: No training gave a value.
        KeyboardInterrupt: Ctrl-C; finished trainings are kept.
    """
    reporter = ConfirmationReporter(Console(stderr=True, highlight=False, soft_wrap=True, quiet=not progress), policy)
    reporter.show_ended(store.runs())
    loop = TrainingLoop(policy, store, engine, run, reporter, interrupts)
    try:
        loop.run()
    finally:
        loop.close()
        verdict = _end(run, read_study(found))
    if loop.interrupted:
        raise KeyboardInterrupt
    if verdict is None:
        raise StudyError(f"the study {store.study.study_name!r}: none of its recipes gave a value on a new seed.")
    return verdict


def _keep_head(store: StudyStore, policy: ConfirmationPolicy, is_instance: bool, left_out: Mapping[str, str]) -> None:
    """Store the part of a verdict beside the trainings; those of a study in an older format are in it, and stay."""
    kept = {name: value for name, value in store.attributes.get(CONFIRMED, {}).items() if name == "trainings"}
    candidates = [candidate.to_dict() for candidate in policy.candidates]
    head = {**kept, "candidates": candidates, "seeds": list(policy.seeds), "is_instance": is_instance}
    head["left_out"] = dict(left_out)
    store.study.set_user_attr(CONFIRMED, head)


def _open_run(study: FrozenStudy, folder: Path, tracking_uri: str | None) -> StudyRun:
    return open_study_run(
        tracking_uri=resolve_tracking_uri(tracking_uri or study.origin.tracking_uri or None),
        study_name=study.name,
        spool_dir=folder / "spool",
        run_id=study.store.parent_key,
    )


def _end(run: StudyRun, study: FrozenStudy) -> Verdict | None:
    """Write the verdict so far into the search's run, and end the run with the status of the search."""
    verdict = study_verdict(study, run.run_id)
    if verdict is not None:
        run.tags({"opttune.verdict": verdict.sentences[0]})
        run.note(write_note(study, verdict.sentences))
    run.end(study.status)
    run.close()
    for folder in (study.config.out_dir / "spool", study.config.checkpoint_folder):
        remove_empty(folder)
    return verdict


def _new_seeds(config: SearchConfig, count: int) -> list[int]:
    return [(config.second_seed + number) % 2**32 for number in range(1, count + 1)]


def _find(
    study: str | Path | SearchResult, storage: str | None, trainer: Mapping[str, Any] | None
) -> tuple[StudyLocation, Mapping[str, Any] | None]:
    """Return the study, and the arguments of the Trainer if they are given; a result holds them, objects as well."""
    if isinstance(study, SearchResult):
        place = study.config.out_dir if storage is None else study.study.study_name
        return find_study(place, storage), study.config.trainer if trainer is None else trainer
    return find_study(study, storage), trainer


def _check(name: str, count: int, least: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        raise InputError(f"{name} must be a whole number >= {least}, got {count!r}.")


def _config(study: FrozenStudy, trainer: Mapping[str, Any] | None) -> SearchConfig:
    """Return the configuration of the search, for trainings to compare."""
    guard = Guard() if study.origin.is_guarded else None
    settings = _trainer(study, trainer)
    require_devices(settings)
    return replace(study.config, trainer=settings, guard=guard)


def _trainer(study: FrozenStudy, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is not None:
        return {**study.config.trainer, **check_trainer(given)}
    project = _project(study)
    if project is not None:
        return {**project.trainer, **study.config.trainer}
    if study.origin.left_out:
        raise InputError(
            f"the search {study.name!r} had Trainer arguments that a study cannot store "
            f"({', '.join(study.origin.left_out)}): call opttune.confirm in Python, with the result of the search, or "
            "with these arguments again (trainer=)."
        )
    return study.config.trainer


def _project(study: FrozenStudy) -> Project | None:
    """Return the project of the search; None if it had none."""
    text = study.config.references.get("project")
    return load_project(read_source(text)) if text else None


def _load(study: FrozenStudy, model: Any, data: Any) -> tuple[Any, Any]:
    """Return the given model and data, else those that the command was given."""
    if model is not None:
        return model, data
    project = _project(study)
    if project is not None:
        return project.model, project.data
    references = study.config.references
    if not references.get("model"):
        raise InputError(
            f"the search {study.name!r} was called from Python, and its model is not known: give it again "
            "(opttune.confirm(study, model, data), or on the command line --model and --data)."
        )
    if data is None and references.get("data"):
        data = load_reference(references["data"], "DATA")
    return load_reference(references["model"], "MODEL"), data
