"""Checks (a) to (d): searches, pauses, the guard, and what opttune costs."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import isfinite
from statistics import median
from typing import Any

import lightning
import torch

import opttune
from gpu_bench import models
from gpu_bench.rows import Place, Row
from opttune.recipe import Part, Recipe
from opttune.tracking.settings import Tracking
from opttune.tracking.study_run import open_study_run
from opttune.tracking.thinning import Thinning
from opttune.tracking.training_log import step_metrics
from opttune.training.attempt import Attempt, NullListener, run_attempt
from opttune.training.step_clock import StepClock
from opttune.training.workload import Workload

ADAMW = Recipe(Part("adamw", {"lr": 3e-4}))
Task = tuple[str, models.Factory, Any, str]
"""What it is called, the model, the data, and the precision."""

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def tasks(place: Place) -> list[Task]:
    width, batch = place.size(512, 16), place.size(256, 16)
    text, digits = partial(models.text, batch), partial(models.digits, place.size(4096, 64))
    makers = [
        ("transformer", models.maker(models.transformer, width), text),
        ("cnn", models.maker(models.cnn, place.size(256, 8)), digits),
        ("lstm", models.maker(models.lstm, place.size(1024, 16)), text),
    ]
    precisions = ("32-true", "bf16-mixed", "16-mixed")
    if not place.is_gpu:
        # one each; 16-mixed has no GradScaler on a CPU
        found = [
            (*maker, precision) for maker, precision in zip(makers, ("32-true", "bf16-mixed", "32-true"), strict=True)
        ]
    else:
        found = [(*maker, precision) for maker in makers for precision in precisions]
    backend = "inductor" if place.is_gpu else "eager"
    return [*found, ("compiled transformer", models.maker(models.transformer, width, backend), text, "32-true")]


def searches(place: Place, given: Sequence[Task] = ()) -> Iterator[Row]:
    """(a) A search of each model in each precision gives a value, and no training fails."""
    for number, (name, model, data, precision) in enumerate(given or tasks(place)):
        result = opttune.search(
            model,
            data,
            space="adamw",
            max_steps=place.size(60, 12),
            budget=2 if "compiled" in name else place.size(3, 2),
            trainer={**place.trainer, "precision": precision},
            study=f"search-{number}",
            out_dir=place.folder / f"search-{number}",
            tracking_uri=place.mlflow,
            tracking=Tracking(report=False),
            progress=False,
            # each training compiles its model
            pauses=place.is_gpu and "compiled" not in name,
        )
        reasons = [str(reason) for reason in result.trials["reason"]]
        bad = [reason for reason in reasons if reason in ("failed", "out_of_memory", "non_finite")]
        is_ok = result.best_value is not None and isfinite(result.best_value) and not bad
        seconds = [one for one in result.trials["step_seconds"] if one == one and one is not None]
        step = f", {1000 * median(seconds):.1f} ms a step" if seconds else ""
        seen = f"val_loss {result.best_value}, {len(reasons)} trials ({', '.join(sorted(set(reasons)))}){step}"
        yield Row("a", f"search, {name}, {precision}", "a value, and none fails", seen, is_ok)
    if not place.is_gpu:
        yield place.only_gpu("a", "16-mixed with a GradScaler", "skipped steps are no divergence")


Train = Callable[..., Any]


def pauses(place: Place, train: Train = run_attempt) -> list[Row]:
    """(b) A training that was paused at two rungs ends with the weights of one that was not."""
    steps = place.size(60, 20)
    workload = Workload(models.maker(models.Small, place.size(1024, 32)), partial(models.numbers, 2048))
    attempt = Attempt(ADAMW, "val_loss", 0, {**place.trainer, "max_steps": steps})

    def weights(name: str, rungs: Sequence[int]) -> torch.Tensor:
        before = None
        for part, until in enumerate((*rungs, None)):
            path = place.folder / f"{name}-{part}.ckpt"
            part_of = replace(attempt, until_step=until, checkpoint=path, resume_from=before)
            outcome = train(part_of, workload, NullListener())
            assert outcome.reason.has_value, f"{name}: {outcome.reason}: {outcome.message}"
            before = path
        state = torch.load(before, map_location="cpu", weights_only=False)["state_dict"]
        return torch.cat([value.flatten().float() for value in state.values()])

    rungs = (steps // 10, steps // 3)
    torch.use_deterministic_algorithms(True)
    whole, paused = weights("whole", ()), weights("paused", rungs)
    apart = float((whole - paused).abs().max())
    found = [Row("b", "paused twice, deterministic kernels", "no difference", f"{apart:.3g}", apart == 0.0)]
    torch.use_deterministic_algorithms(False)
    again, other, paused = weights("again", ()), weights("other", ()), weights("free", rungs)
    apart, usual = float((again - paused).abs().max()), float((again - other).abs().max())
    seen = f"{apart:.3g}; two whole ones differ by {usual:.3g}"
    found.append(
        Row("b", "the same, any kernels", "about as far apart as two whole ones", seen, apart <= max(1e-6, 10 * usual))
    )
    return found


class NoSync(lightning.Callback):
    """Raises where a step makes the host wait for the GPU; the first steps set things up."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= 3:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


_MOST_STEPS = 12


def guard(
    place: Place, make: Callable[..., Any] = opttune.GuardCallback, syncs: Callable[[], Any] = NoSync
) -> list[Row]:
    """(c) A rate of 1e3, and NaN at step 7, end a training within 12 steps; no step waits for the GPU."""
    rows = []
    under_way = 2 * opttune.Guard().read_every_steps if place.is_gpu else 0
    expected = f"by step {_MOST_STEPS}, at most {under_way} more done" if under_way else f"by step {_MOST_STEPS}"
    cases = [("lr 1e3", models.Small(), 1e3), ("NaN at step 7", models.NanAt(7), 1e-3)]
    for what, model, lr in cases:
        stops = make()
        recipe = opttune.RecipeCallback(Recipe(Part("sgd", {"lr": lr}), gradient_clip_norm=None), guard=False)
        trainer = lightning.Trainer(**QUIET, **place.trainer, max_steps=100, callbacks=[recipe, stops])
        trainer.fit(model, *models.numbers())
        decision = getattr(stops, "decision", None)
        at = "not stopped" if decision is None else f"judged at step {decision.step} ({decision.reason})"
        is_ok = decision is not None and decision.step <= _MOST_STEPS
        is_ok = is_ok and trainer.global_step <= _MOST_STEPS + under_way
        rows.append(Row("c", f"guard, {what}", expected, f"{at}, {trainer.global_step} steps done", is_ok))
    what, expected = "no wait in a step, with guard and tracking", "no synchronisation"
    if not place.is_gpu:
        return [*rows, place.only_gpu("c", what, expected)]
    return [*rows, _without_sync(place, make, syncs, what, expected)]


def _without_sync(place: Place, make: Any, syncs: Any, what: str, expected: str) -> Row:
    records: list[Any] = []
    model, callbacks = models.Small(1024), [StepClock(), syncs(), make(listener=records.extend)]
    trainer = lightning.Trainer(**QUIET, **place.trainer, max_steps=60, callbacks=callbacks, limit_val_batches=0)
    problem = ""
    try:
        trainer.fit(model, models.numbers()[0])
    except RuntimeError as err:
        problem = str(err)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    is_ok = not problem and len(records) == trainer.global_step == 60
    return Row("c", what, expected, problem[:200] or f"none, {len(records)} steps read", is_ok)


class Clock(lightning.Callback):
    """Times a training, its set-up left out: on the wall, and of the processor."""

    def __init__(self, is_gpu: bool) -> None:
        self.is_gpu = is_gpu
        self.seconds = 0.0

    def now(self) -> float:
        if self.is_gpu:
            torch.cuda.synchronize()
            return time.perf_counter()
        # on a busy machine the processor's own time is more reliable
        return time.process_time()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2:
            self.start = self.now()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds = self.now() - self.start


def _guarded(place: Place) -> tuple[list[Any], Callable[[], None]]:
    return [opttune.GuardCallback()], lambda: None


def _tracked(place: Place) -> tuple[list[Any], Callable[[], None]]:
    run = open_study_run(
        tracking_uri=place.mlflow, study_name="overhead", spool_dir=place.folder / "spool", run_id=None
    )
    trial = run.child("trial", thinning=Thinning(100))

    def listen(records: list[Any]) -> None:
        for record in records:
            trial.log(record.step, step_metrics(record))

    return [opttune.GuardCallback(listener=listen)], run.close


VARIANTS: dict[str, Any] = {"guard": _guarded, "guard and tracking": _tracked}


def overhead(place: Place, variants: dict[str, Any] | None = None) -> Iterator[Row]:
    """(d) What the guard, and guard and tracking, add to a step of plain Lightning."""
    variants = VARIANTS if variants is None else variants
    most = 1.05 if place.is_gpu else 2.0
    for target in (1, 5, 50) if place.is_gpu else (5,):
        model, steps = _load(place, target / 1000), min(place.size(200, 20), max(20, 1000 // target))
        taken: dict[str, list[float]] = {name: [] for name in ("plain", *variants)}
        order = random.Random(0)
        for number in range(place.size(6, 3)):
            for name in order.sample(list(taken), len(taken)):
                callbacks, afterwards = ([], lambda: None) if name == "plain" else variants[name](place)
                clock = Clock(place.is_gpu)
                _fit(place, model(), steps, [*callbacks, clock])
                afterwards()
                if number:  # the first round warms up
                    taken[name].append(clock.seconds / (steps - 2))
        plain = median(taken["plain"])
        for name in variants:
            ratio = median(taken[name]) / plain
            what, unit = f"{name}, {target} ms a step", "" if place.is_gpu else " of the processor"
            seen = f"{ratio:.3f} x of {1000 * plain:.2f} ms{unit}"
            yield Row("d", what, f"at most {most:.2f} x plain", seen, ratio <= most, {"ratio": ratio})


def _fit(place: Place, model: Any, steps: int, callbacks: list[Any]) -> None:
    trainer = lightning.Trainer(**QUIET, **place.trainer, max_steps=steps, callbacks=callbacks, limit_val_batches=0)
    trainer.fit(model, models.numbers()[0])


def _load(place: Place, seconds: float) -> models.Factory:
    """Return a model whose step takes about that long."""
    side = place.size(1024, 128)
    device = "cuda" if place.is_gpu else "cpu"
    square = torch.eye(side, device=device, requires_grad=True)
    repeats, took = 8, 0.0
    for _ in range(2):  # once to warm up
        began, work = time.perf_counter(), square
        for _ in range(repeats):
            work = work @ square
        work.mean().backward()
        took = time.perf_counter() - began
        if place.is_gpu:
            with suppress(RuntimeError):
                torch.cuda.synchronize()
            took = time.perf_counter() - began
    return models.maker(models.Load, side, max(1, min(2000, round(repeats * seconds / max(took, 1e-6)))))
