"""The start and the end of a search's MLflow run, and its answer in MLflow, in its folder and for its caller."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from opttune.preview import budget_steps
from opttune.provenance import datasets, source_tags, versions
from opttune.recipe import Recipe
from opttune.report import write_report
from opttune.runtime.loop import TrainingLoop
from opttune.shared_folder import remove_empty
from opttune.storages.find_study import StudyLocation
from opttune.study.answer import answer_of, cost_ratio
from opttune.study.config import SearchConfig
from opttune.study.frozen_study import FrozenStudy, is_first_answer, keep_status, read_study
from opttune.study.note import write_note
from opttune.study.result import SearchResult, trials_table
from opttune.tracking.study_run import StudyRun
from opttune.tracking.training_log import BEST_OVER_SECONDS, recipe_params
from opttune.training.inspection import ModelInspection
from opttune.training.workload import Workload
from opttune.trial_record import TrialRecord

_DELIVERY_SECONDS = 15.0
"""How long the report waits until its curves are in MLflow."""


def begin_run(run: StudyRun, config: SearchConfig, inspection: ModelInspection, workload: Workload) -> None:
    """Write the purpose of a search, the origin of its code, and the versions that it uses."""
    run.params(_parent_params(config, inspection))
    run.tags({f"opttune.{name}": version for name, version in versions().items()})
    # a larger budget continues the same run, whose params cannot be changed
    run.tags({"opttune.budget": config.budget, "opttune.budget_steps": budget_steps(config, inspection)})
    run.tags(source_tags(workload.model))
    run.text(inspection.summary, "model_summary.txt")
    if config.tracking.log_data:
        run.datasets(datasets(workload, inspection.data))


def end_run(
    config: SearchConfig, inspection: ModelInspection, loop: TrainingLoop, run: StudyRun, status: str
) -> SearchResult:
    """Write the answer to the folder and to MLflow, and return it.

    Args:
        config: The configuration of the search.
        inspection: The inspection of the model.
        loop: The loop of the search, at its end.
        run: The search's MLflow run; it is ended and closed here.
        status: MLflow's status of the run.
    """
    keep_status(loop.store.study, status)
    found = StudyLocation(loop.store.study, loop.store.storage, config.out_dir)
    study = read_study(found)
    told = (*loop.warnings, config.mode_warning, inspection.not_paused, *inspection.notes)
    warnings = [sentence for sentence in told if sentence]
    answer = answer_of(study)
    warnings += answer.warnings
    _write_answer(run, study)
    if status == "FINISHED" and config.tracking.report and study.best is not None:
        warnings += _write_report(run, study)
    if config.tracking.log_model and config.best_checkpoint_path.exists():
        run.artifact(config.best_checkpoint_path, "model")
    run.end(status)
    run_id = run.run_id
    run.close()
    remove_empty(config.out_dir / "spool")
    if run.writer.problem:
        warnings.append(run.writer.problem)
    return SearchResult(
        answer=answer,
        trials=trials_table(study.records),
        steps_spent=study.steps_spent,
        study=study.study,
        run_id=run_id,
        warnings=tuple(warnings),
        budget_steps=budget_steps(config, inspection),
        config=config,
        write_report=partial(_report_of, found, run.writer.tracking_uri),
    )


def write_best(run: StudyRun, study: FrozenStudy) -> None:
    """Write the best trial as tags, which follow the search, and once as params, which MLflow never changes.

    The params include the number of the trial, and the steps after which it was the best.
    """
    best = study.best
    if best is None or best.recipe is None:
        return
    run.tags(_best_tags(best.recipe, study.records))
    number = best.number if best.auxiliary is None else str(best.role)
    run.tags({"opttune.best_trial": number, "opttune.best_value": best.value})
    if study.status == "FINISHED" and is_first_answer(study.study):
        known = {**recipe_params(best.recipe), "trial": number, "value": best.value}
        run.params({f"best/{name}": value for name, value in {**known, "after_steps": study.steps_spent}.items()})


def _write_answer(run: StudyRun, study: FrozenStudy) -> None:
    best, baseline = study.best, study.baseline
    write_best(run, study)
    if best is not None:
        if study.config.best_recipe_path.exists():
            run.artifact(study.config.best_recipe_path)
        # the curve extends to the end of the search
        value, now = best.value or 0.0, time.time_ns() // 1_000_000
        spent = {"best/objective": study.steps_spent, BEST_OVER_SECONDS: round(study.seconds_spent)}
        run.metrics([(name, value, at, now) for name, at in spent.items()])
    if baseline is not None:
        run.tags({"opttune.baseline_value": baseline.value, "opttune.baseline": study.origin.replaced})
        if study.baseline_source:
            run.tags({"opttune.baseline_source": study.baseline_source})
    run.tags({"opttune.steps_spent": study.steps_spent, "opttune.seconds_spent": round(study.seconds_spent, 1)})
    ratio = None if best is None else cost_ratio(study, best)
    if ratio is not None:
        run.tags({"opttune.best_step_over_baseline": round(ratio, 2)})
    run.note(write_note(study))


def _write_report(run: StudyRun, study: FrozenStudy) -> list[str]:
    """Write the report and its images to the folder and to MLflow. Whatever fails does not lose the answer."""
    run.flush(_DELIVERY_SECONDS)
    try:
        written = write_report(study, study.config.out_dir, run.writer.tracking_uri)
    except OSError as err:
        return [f"the report could not be written: {err}"]
    except Exception as err:
        return [f"the report could not be drawn ({type(err).__name__}: {err}); opttune report --debug shows where."]
    for path in written:
        run.artifact(path, "report" if path.suffix == ".png" else None)
    return []


def _report_of(found: StudyLocation, tracking_uri: str, path: str | Path | None) -> Path:
    return write_report(read_study(found), path or found.folder, tracking_uri)[0]


def _best_tags(best: Recipe, records: Sequence[TrialRecord]) -> dict[str, object]:
    """Return a tag for each field; fields of an earlier best that this recipe lacks become empty."""
    names = {name for record in records if record.recipe for name in record.recipe.flat()}
    return {f"opttune.best.{name}": best.flat().get(name, "") for name in names}


def _parent_params(config: SearchConfig, inspection: ModelInspection) -> dict[str, object]:
    return {
        "space": config.space.name,
        "optimizers": ", ".join(branch.name for branch in config.space.optimizers),
        "schedules": ", ".join(branch.name for branch in config.space.schedules),
        "monitor": config.monitor,
        "mode": config.mode,
        **config.length,
        "full_length_steps": inspection.total_steps,
        **({} if config.budget_unit == "steps" else {"budget_unit": config.budget_unit}),
        "seed": config.seed,
        "model": inspection.model_name,
        "parameters": inspection.parameters,
        "replaced": inspection.replaced,
    }
