"""A given baseline curve, which replaces the baseline's training in the study at no cost."""

from collections.abc import Sequence

from opttune.errors import InputError, StudyError
from opttune.job import Role, TrainingJob
from opttune.outcome import Outcome, StopReason
from opttune.recipe import Recipe
from opttune.runtime.checkpoints import CheckpointStore
from opttune.runtime.policy import baseline_parameters
from opttune.space.sample import sample_recipe
from opttune.storages.study_store import StudyStore
from opttune.study.config import SearchConfig
from opttune.study.given_baseline import GivenBaseline
from opttune.study.selection import baseline_record, best_of
from opttune.training.inspection import ModelInspection


def place_baseline(
    given: GivenBaseline,
    config: SearchConfig,
    inspection: ModelInspection,
    store: StudyStore,
    checkpoints: CheckpointStore,
) -> None:
    """Put a given curve in the place of the baseline's training: a trial of `own`, or an auxiliary run.

    Args:
        given: The curve, of the full length.
        config: The configuration of the search, with its settled space.
        inspection: The inspection of the model.
        store: The study; it stays unchanged if it already has this baseline.
        checkpoints: The files of the search, with the best recipe.

    Raises:
        InputError: The module has no working optimizer, which could be the answer.
        StudyError: The study has another baseline.
    """
    if not inspection.has_own_optimizer:
        raise InputError(
            f"baseline_run (--baseline-run): {inspection.model_name} has no optimizer that works "
            f"({inspection.replaced}), so no curve can belong to its training."
        )
    known = baseline_record(store.records(), store.runs())
    if known is not None:
        if known.source == given.source:
            return
        what = f"one that was given ({known.source})" if known.source else "one that it trains itself"
        raise StudyError(
            f"the study {config.study_name!r} has a baseline, {what}: a study compares with only one. Leave out "
            "--baseline-run, or start a new study: --study NAME."
        )
    pauses, outcome = _outcomes(given, config, inspection)
    with store.batch():
        _save(config, inspection, store, given.source, pauses, outcome)
    records = store.records()
    baseline = baseline_record(records, store.runs())
    best = best_of(records, baseline, config.mode)
    if best is not None and best.is_baseline:
        checkpoints.keep_best(best, None)


def _outcomes(given: GivenBaseline, config: SearchConfig, inspection: ModelInspection) -> tuple[list[Outcome], Outcome]:
    """Return the outcomes of a training with this curve at each rung and at its end."""
    *rungs, end = config.rungs(inspection.total_steps)
    # at a rung with a decaying look, the curve of a training without decay is not comparable
    is_comparable = not config.halving_for(end).look_share
    values = [given.value_at(rung) if is_comparable else None for rung in rungs]
    pauses = [Outcome(StopReason.PAUSED, value, rung, end, 0.0) for value, rung in zip(values, rungs, strict=True)]
    return pauses, Outcome(StopReason.COMPLETED, given.value, end, end, 0.0, replaced=inspection.replaced)


def _save(
    config: SearchConfig,
    inspection: ModelInspection,
    store: StudyStore,
    source: str,
    pauses: Sequence[Outcome],
    outcome: Outcome,
) -> None:
    parameters = baseline_parameters(config.space)
    recipe: Recipe | None = None
    if parameters is None:
        claimed = store.claim_run(TrainingJob(None, config.seed, Role.BASELINE, label=inspection.replaced))
        if claimed is None:
            return
        kept, number = store.store_of(claimed), claimed.number
    else:
        trial = store.trials.begin(parameters)
        kept, number, recipe = store.trials, trial.number, sample_recipe(config.space, trial)
    # it comes first, because a given baseline costs nothing
    kept.save_source(number, recipe, source)
    for pause in pauses:
        kept.save_pause(number, pause)
    kept.save_outcome(number, outcome, store.steps_spent, store.seconds_seen)
    kept.tell(number, outcome)
