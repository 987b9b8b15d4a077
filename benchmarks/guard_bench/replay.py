"""Ask the guard's own rules about a recorded run: at which step would each have stopped it?"""

from math import isfinite

from guard_bench.runs import Run
from opttune.guard.rules import Guard, Timing, judge, judge_stall, stall_timing

RULES = ("non_finite", "blow_up", "stall")
_EVERY_STEP_UNTIL = 200
"""From there on only the steps of a check are looked at, which is where blow-up decides."""


def stopped_at(run: Run, guard: Guard) -> dict[str, int]:
    """Return the step at which each rule, alone, would have stopped a run; those that would not are left out."""
    found = {"non_finite": _non_finite(run), "blow_up": _blow_up(run, guard), "stall": _stall(run, guard)}
    return {rule: step for rule, step in found.items() if step is not None}


def _non_finite(run: Run) -> int | None:
    return next((step for step in run.recorded if not isfinite(run.losses[step - 1])), None)


def _blow_up(run: Run, guard: Guard) -> int | None:
    total = run.total_steps
    last = min(len(run.losses), int(guard.blow_up_until_fraction * total))
    first, distance = max(10, total // 100), max(8, total // 100)
    checks = {step for step in run.recorded if step <= _EVERY_STEP_UNTIL}
    for step in sorted(checks | set(range(first, last + 1, distance))):
        if step > last:
            break
        if isfinite(run.losses[step - 1]) and judge(run.losses[:step], total, guard, step=step) is not None:
            return step
    return None


def _stall(run: Run, guard: Guard) -> int | None:
    """As the callback does: once, at the moment that is due, or at the second validation if that comes later."""
    seconds = run.validations[1:2]
    if not seconds:
        return None
    due = next(
        (
            step
            for step in range(1, run.total_steps + 1)
            if stall_timing(step, run.total_steps, run.risen_until, guard) is not Timing.EARLY
        ),
        run.total_steps,
    )
    step = max(due, seconds[0][0])
    if step > len(run.losses) or stall_timing(step, run.total_steps, run.risen_until, guard) is Timing.LATE:
        return None
    seen = [value for at, value in run.validations if at <= step]
    verdict = judge_stall(run.losses[:step], seen, run.mode, guard, step)
    return None if verdict is None else step
