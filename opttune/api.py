"""`opttune.search`, which the command also uses."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from opttune.algorithms.proposal import SamplerSettings
from opttune.algorithms.rungs import is_raced
from opttune.answer import begin_run, end_run
from opttune.engines.devices import count_processes, require_devices
from opttune.engines.engine import Engine
from opttune.engines.start import remove_stale_engines, start_engine
from opttune.guard.rules import Guard
from opttune.integration.sampler import OpttuneSampler
from opttune.planning import make_plan
from opttune.preview import INSPECTED_STEPS, inspect_workload, measure_steps, settle_for, with_settled_space
from opttune.runtime.baseline import place_baseline
from opttune.runtime.checkpoints import CheckpointStore, make_folder, remove_unused
from opttune.runtime.display import make_reporter
from opttune.runtime.loop import TrainingLoop
from opttune.runtime.policy import SearchPolicy
from opttune.runtime.progress import ProgressReporter
from opttune.runtime.signals import DeferredInterrupts
from opttune.space.model import Space
from opttune.storages.open_storage import explain_storage_errors, lock_folder, open_storage, quiet_optuna
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.given_baseline import GivenBaseline
from opttune.study.metadata import StudyMetadata
from opttune.study.prior_runs import read_prior_runs
from opttune.study.result import SearchResult
from opttune.study.step_costs import StepCosts, is_baselines
from opttune.tracking.address import resolve_tracking_uri
from opttune.tracking.machine import check_machine_metrics
from opttune.tracking.settings import Tracking
from opttune.tracking.study_run import open_study_run
from opttune.training.inspection import ModelInspection
from opttune.training.workload import Workload

Display = Callable[[], AbstractContextManager[ProgressReporter]]
"""Opens the display of a search's progress."""


def search(
    model: Any,
    data: Any = None,
    *,
    space: str | Path | Space = "auto",
    monitor: str = "val_loss",
    mode: str = "min",
    max_steps: int | None = None,
    max_epochs: int | None = None,
    budget: float = 20.0,
    trials: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    engine: str | None = None,
    study: str | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    out_dir: str | Path | None = None,
    seed: int = 0,
    guard: Guard | bool | None = None,
    baseline: bool = True,
    trainer: Mapping[str, Any] | None = None,
    progress: bool = True,
    warm_start: str | Path | None = None,
    tracking: Tracking | None = None,
    ray_address: str | None = None,
    pauses: bool = True, budget_unit: str = "steps", verbose: bool = False,
    baseline_run: str | Path | None = None, learn_from: str | Path | None = None,
) -> SearchResult:  # fmt: skip
    """Search for the best optimizer and learning-rate schedule of a module.

    A second call with the same study and storage resumes the search. The budget counts both calls.

    Args:
        model: A LightningModule class, a factory without arguments, or an instance (copied for each trial); or the
            text `path/file.py:name` that names one.
        data: A LightningDataModule, a factory, or loaders for `Trainer.fit`: `(train, val)`; or the text that names
            one. None if the model has its own data.
        space: The space to search: a name, a file, or a `Space`. `auto` chooses one for the module.
        monitor: The metric to optimize, under the name in the module's log. Its value at the end of the full length
            counts.
        mode: `min` or `max`.
        max_steps: The full length of one training in optimizer steps; give this or `max_epochs`.
        max_epochs: The full length in epochs.
        budget: Cost of the whole search in full trainings, counted in optimizer steps. The search ends at the first
            limit that it reaches: `budget`, `trials` or `timeout`.
        trials: Total number of trials of the study; None for no limit.
        timeout: Seconds after which no new training starts; None for no limit.
        workers: Trainings at a time.
        engine: Where trainings run: `inline` in this process, `local` in worker processes, `ray` on a Ray cluster.
            None: `inline` for one worker, else `local`.
        study: Name of the study; None for `<model>-<space>`.
        storage: Optuna storage URL; None for a journal file in `out_dir`.
        tracking_uri: Address of MLflow; None for `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` in the working
            folder.
        out_dir: Folder for the search's files; None for `opttune_runs/<study>`.
        seed: Seed of the sampler, and of initial weights and data order, which all trainings share.
        guard: Rules that stop a training that diverges or stalls: None or True for the defaults, False for none.
        baseline: Whether to train the baseline, the module with its own optimizer, once. It counts in the budget.
        trainer: Further arguments of the Trainer.
        progress: Whether to show progress, and the answer at the end, on standard error.
        warm_start: Name or folder of an earlier study, for example of a smaller model or other data. Its best recipe of
            each optimizer is tried first and becomes the prior. A resumed study keeps its first priors.
        tracking: Settings for MLflow; None for `Tracking()`.
        ray_address: Address `host:port` of a running Ray cluster, for the engine `ray`; None for `RAY_ADDRESS`, else a
            new cluster on this machine.
        baseline_run: An existing curve of the baseline: `RUN_ID` or `RUN_ID:METRIC` of MLflow, or a CSV file with the
            columns `step` and `value`, up to the full length. It costs no budget.
        learn_from: Earlier trainings: the name of an MLflow experiment, or a CSV file with one row for each
            (`optimizer`, `lr`, ..., and the monitor or `value`). The best of each optimizer is tried first and becomes
            the prior.
        pauses: Whether trials may pause at rungs and resume; False trains each without a pause.
        budget_unit: The unit of the budget, in which all full trainings are equal: `steps` or `time`. With `time`, a
            full training takes as long as the baseline's, so an optimizer with costly steps trains fewer of them.
        verbose: Whether to explain the choice of the space, and to show a line for each training on a terminal.

    Returns:
        The best recipe, its value and the baseline's, and all trials.

    Raises:
        OpttuneError: An argument cannot be used, or the model cannot be tuned; the message says how to fix it.
        KeyboardInterrupt: Ctrl-C; the study is kept, and the same call resumes it.
    """
    config, workload = make_plan(
        model, data, space=space, monitor=monitor, mode=mode, max_steps=max_steps, max_epochs=max_epochs, trials=trials,
        budget=budget, timeout=timeout, workers=workers, engine=engine, study=study, seed=seed, trainer=trainer,
        out_dir=out_dir, guard=guard, baseline=baseline, pauses=pauses, budget_unit=budget_unit,
    )  # fmt: skip
    result = run_plan(
        replace(config, tracking=tracking or Tracking()), workload, storage=storage, tracking_uri=tracking_uri,
        warm_start=warm_start, learn_from=learn_from, baseline_run=baseline_run,
        display=partial(make_reporter, progress, verbose), ray_address=ray_address,
    )  # fmt: skip
    return _told(result) if progress else result


def _told(result: SearchResult) -> SearchResult:
    """Show the answer with its warnings after the lines of the trainings, and what to do next, as the command does."""
    # the study does not keep objects of Python: another process needs them again
    print(result, *result.answer.next_steps("opttune.confirm(result, model, data)"), sep="\n", file=sys.stderr)
    return result


def run_plan(
    config: SearchConfig,
    workload: Workload,
    *,
    storage: str | None,
    tracking_uri: str | None,
    warm_start: str | Path | None,
    display: Display,
    ray_address: str | None = None,
    baseline_run: str | Path | None = None,
    learn_from: str | Path | None = None,
) -> SearchResult:
    """Search as a config says; the arguments are those of `search`, but for the display."""
    mlflow_uri = resolve_tracking_uri(tracking_uri)
    _check_machine(config)
    prior = read_prior_runs(config, mlflow_uri, storage, warm_start, baseline_run, learn_from)
    places = (config.out_dir, config.trainer, interrupts := DeferredInterrupts(), ray_address)
    with explain_storage_errors(), quiet_optuna(), ExitStack() as opened:
        opened.enter_context(_folder(config, is_shared=bool(storage)))
        # worker processes start while this one inspects the model
        trains = opened.enter_context(closing(start_engine(config.engine, config.workers, workload, *places)))
        inspection = inspect_workload(config, workload, steps=INSPECTED_STEPS)
        given = prior.baseline and prior.baseline.of_length(inspection.total_steps)
        store = StudyStore(
            config.study_name, open_storage(storage, config.out_dir), config.spec, is_shared=bool(storage)
        )
        if inspection.identity is not None:
            store.refuse_another_model(inspection.identity)
        total_steps = inspection.total_steps
        config = replace(config, pauses=config.pauses and not inspection.not_paused)
        can_look = config.pauses and count_processes(config.trainer) == 1
        races = is_raced(total_steps, config.budget, can_look)
        settled = store.settle_space(settle_for(config, inspection, prior.earlier), total_steps, races)
        config = with_settled_space(config, settled).with_races(store.races)
        config = _with_step_costs(config, trains, inspection, store)
        StudyMetadata.of(config, inspection, mlflow_uri).keep(store.study, config.out_dir)
        store.study.sampler = sampler = _make_sampler(config, inspection.total_steps)
        # deferred until the very end, where locks are released
        with interrupts, opened:
            result = _run(config, workload, trains, inspection, store, sampler, interrupts, mlflow_uri, display, given)
    if result is None:
        raise KeyboardInterrupt
    return result


@contextmanager
def _folder(config: SearchConfig, is_shared: bool) -> Iterator[None]:
    """Make and lock the folder of a search; nothing is left of it if the search leaves nothing in it."""
    new = make_folder(config.out_dir)
    with ExitStack() as opened:
        if not is_shared:
            opened.enter_context(lock_folder(config.out_dir))
            remove_stale_engines(config.out_dir)
        # before the lock is released: no other search has begun in the folder then
        opened.callback(remove_unused, new)
        yield


def _check_machine(config: SearchConfig) -> None:
    """Refuse missing devices and packages before any training."""
    require_devices(config.trainer)
    if config.tracking.reads_machine:
        check_machine_metrics()


def _with_step_costs(
    config: SearchConfig, engine: Engine, inspection: ModelInspection, store: StudyStore
) -> SearchConfig:
    """Return the config with the cost of a step of each optimizer, if the budget is in time; a study measures once."""
    if config.budget_unit != "time":
        return config
    seconds = store.step_seconds
    if seconds is None:
        seconds = store.keep_step_seconds(measure_steps(config, engine, inspection))
    costs = StepCosts.of(seconds)
    unknown = [one.name for one in config.space.optimizers if one.name not in seconds and not is_baselines(one.name)]
    words = [f"what a step of {name} takes could not be measured: it trains the full length." for name in unknown]
    notes = (*config.space_notes, *costs.sentences(inspection.total_steps), *words)
    return replace(config, step_costs=costs, space_notes=notes)


def _make_sampler(config: SearchConfig, total_steps: int) -> OpttuneSampler:
    mixture = SamplerSettings(races=config.halving_for(total_steps).races)
    return OpttuneSampler(config.space, seed=config.seed, mixture=mixture)


def _run(
    config: SearchConfig,
    workload: Workload,
    engine: Engine,
    inspection: ModelInspection,
    store: StudyStore,
    sampler: OpttuneSampler,
    interrupts: DeferredInterrupts,
    tracking_uri: str,
    display: Display,
    given: GivenBaseline | None,
) -> SearchResult | None:
    """Return the result; None if the search was interrupted."""
    if given is not None:
        place_baseline(given, config, inspection, store, CheckpointStore(config, store.leases.is_shared))
    run = open_study_run(
        tracking_uri=tracking_uri,
        study_name=config.study_name,
        spool_dir=config.out_dir / "spool",
        run_id=store.parent_key,
        thins=config.tracking.thin,
        reads_machine=config.tracking.reads_machine,
        trains_here=config.engine != "ray",
    )
    begin_run(run, config, inspection, workload)
    with display() as reporter:
        policy = SearchPolicy(config, inspection)
        loop = TrainingLoop(policy, store, engine, run, reporter, interrupts, sampler.leave_out)
        reporter.search_started(config, inspection, store.records(), store.steps_seen)
        status = "FAILED"
        try:
            loop.run()
            status = "KILLED" if loop.interrupted else "FINISHED"
        finally:
            loop.close()
            result = end_run(config, inspection, loop, run, status)
        if loop.interrupted:
            reporter.search_interrupted(result.answer, result.steps_spent)
    return None if loop.interrupted else result
