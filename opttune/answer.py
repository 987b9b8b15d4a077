"""What a search says at its two ends: to MLflow what it is for, and its answer to MLflow, its folder and its caller."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from opttune.preview import budget_steps
from opttune.provenance import datasets, source_tags, versions
from opttune.recipe import Recipe
from opttune.report import write_report
from opttune.searching.audit import audit_warnings, read_findings
from opttune.searching.diagnosis import edge_warnings, stability
from opttune.searching.finale import luck_warning
from opttune.searching.lookup import FoundStudy
from opttune.searching.note import write_note
from opttune.searching.plan import SearchPlan
from opttune.searching.record import TrialRecord
from opttune.searching.result import SearchResult, is_better, trials_table
from opttune.searching.stored import StoredStudy, is_first_answer, keep_status, read_study
from opttune.searching.study import Search
from opttune.searching.tracked import recipe_params
from opttune.shared_folder import remove_empty
from opttune.tracking.study_run import StudyRun
from opttune.training.survey import Survey
from opttune.training.workload import Workload

_DELIVERY_SECONDS = 15.0
"""So long the report waits for the curves that it draws to be in MLflow."""


def begin_run(run: StudyRun, plan: SearchPlan, looked: Survey, workload: Workload) -> None:
    """Write what a search is for, where its code comes from, and what it ran with."""
    run.params(_parent_params(plan, looked))
    run.tags({f"opttune.{name}": version for name, version in versions().items()})
    # a larger budget goes on in the same run, whose params cannot be changed
    run.tags({"opttune.budget": plan.budget, "opttune.budget_steps": budget_steps(plan, looked)})
    run.tags(source_tags(workload.model))
    run.text(looked.summary, "model_summary.txt")
    if plan.tracking.log_data:
        run.datasets(datasets(workload, looked.data))


def end_run(plan: SearchPlan, loop: Search, run: StudyRun, status: str) -> SearchResult:
    """Write the answer to the folder and to MLflow, and return it.

    Args:
        plan: What the search was told.
        loop: The search, at its end.
        run: Its run in MLflow, which is ended and closed.
        status: How it ended, in MLflow's words.
    """
    keep_status(loop.store.study, status)
    found = FoundStudy(loop.store.study, loop.store.storage, plan.out_dir)
    study = read_study(found)
    warnings = [sentence for sentence in (loop.stopped_because, plan.mode_warning) if sentence]
    warnings += audit_warnings(plan.guard, read_findings(loop.store.study))
    warnings += _warnings(study)
    _write_answer(run, study)
    if status == "FINISHED" and plan.tracking.report and study.best is not None:
        warnings += _write_report(run, study)
    if plan.tracking.log_model and plan.best_checkpoint_path.exists():
        run.artifact(plan.best_checkpoint_path, "model")
    run.end(status)
    run_id = run.run_id
    run.close()
    remove_empty(plan.out_dir / "spool")
    if run.writer.problem:
        warnings.append(run.writer.problem)
    best = study.best
    return SearchResult(
        best_recipe=best.recipe if best else None,
        best_value=best.value if best else None,
        baseline_value=study.baseline.value if study.baseline else None,
        trials=trials_table(study.records),
        steps_spent=study.steps_spent,
        study=study.study,
        run_id=run_id,
        warnings=tuple(warnings),
        stability=tuple(stability(study.records)),
        replaced=loop.survey.replaced,
        budget_steps=budget_steps(plan, loop.survey),
        plan=plan,
        write_report=partial(_report_of, found, run.writer.tracking_uri),
    )


def write_best(run: StudyRun, study: StoredStudy) -> None:
    """Write the best trial as tags, which follow the search, and once as params, which MLflow never lets change.

    Params say which trial they are of, and after how many steps it was the best.
    """
    best = study.best
    if best is None or best.recipe is None:
        return
    run.tags(_best_tags(best.recipe, study.records))
    run.tags({"opttune.best_trial": best.number, "opttune.best_value": best.value})
    if study.status == "FINISHED" and is_first_answer(study.study):
        known = {**recipe_params(best.recipe), "trial": best.number, "value": best.value}
        run.params({f"best/{name}": value for name, value in {**known, "after_steps": study.steps_spent}.items()})


def _write_answer(run: StudyRun, study: StoredStudy) -> None:
    best, baseline = study.best, study.baseline
    write_best(run, study)
    if best is not None:
        if study.plan.best_recipe_path.exists():
            run.artifact(study.plan.best_recipe_path)
        # the curve reaches as far as the search
        run.metrics([("best/objective", best.value or 0.0, study.steps_spent, time.time_ns() // 1_000_000)])
    if baseline is not None:
        run.tags({"opttune.baseline_value": baseline.value, "opttune.baseline": study.origin.replaced})
    run.tags({"opttune.steps_spent": study.steps_spent})
    run.note(write_note(study))


def _write_report(run: StudyRun, study: StoredStudy) -> list[str]:
    """Write the report and its pictures to the folder and to MLflow; an answer is not lost to a full disk."""
    run.flush(_DELIVERY_SECONDS)
    try:
        written = write_report(study, study.plan.out_dir, run.writer.tracking_uri)
    except OSError as err:
        return [f"the report could not be written: {err}"]
    for path in written:
        run.artifact(path, "report" if path.suffix == ".png" else None)
    return []


def _report_of(found: FoundStudy, tracking_uri: str, path: str | Path | None) -> Path:
    return write_report(read_study(found), path or found.folder, tracking_uri)[0]


def _warnings(study: StoredStudy) -> list[str]:
    best, baseline, plan = study.best, study.baseline, study.plan
    if best is None or best.recipe is None:
        return []
    warnings = edge_warnings(best.recipe, study.space)
    warnings += filter(None, [luck_warning(study.records, best, plan.monitor, plan.mode)])
    if baseline is not None and not is_better(best.value, baseline.value, plan.mode):
        value = "no value" if baseline.value is None else f"{baseline.value:.5g}"
        warnings.append(
            f"no recipe beats the module as it came ({plan.monitor} {value}): "
            "give a new search (--study NAME) a larger budget, which opens more of the space, or a space of your own."
        )
    return warnings


def _best_tags(best: Recipe, records: Sequence[TrialRecord]) -> dict[str, object]:
    """Return a tag for each field; those of an earlier best that this one lacks are emptied."""
    names = {name for record in records if record.recipe for name in record.recipe.flat()}
    return {f"opttune.best.{name}": best.flat().get(name, "") for name in names}


def _parent_params(plan: SearchPlan, looked: Survey) -> dict[str, object]:
    return {
        "space": plan.space.name,
        "optimizers": ", ".join(branch.name for branch in plan.space.optimizers),
        "schedules": ", ".join(branch.name for branch in plan.space.schedules),
        "monitor": plan.monitor,
        "mode": plan.mode,
        **plan.length,
        "full_length_steps": looked.total_steps,
        "seed": plan.seed,
        "model": looked.model_name,
        "parameters": looked.parameters,
        "replaced": looked.replaced,
    }
