"""What the guard's rules would have done to recorded trainings: failures caught, steps saved, good runs killed.

    python benchmarks/guard.py                 # needs ../shared/data; pyarrow and scipy

Replays 1,664 runs of our own of 300 steps, 856 of DeepOBS and 2,774 of AlgoPerf with the guard's own functions.
Thresholds are chosen on one part of the problems and reported on the others (`guard_bench/runs.py` names them). The
defaults were written with figures of all three sources in view, so the choice on the first part is shown beside them:
if both agree, no threshold was chosen on the second part. The form of the runaway rule, three losses beside nine, was
chosen after a first look at DeepOBS's second part.

For each rule and each share of the length: failures caught by then, top-decile and top-quarter runs of each problem
killed by then with the upper 95% bound (Clopper-Pearson), and the share of all steps that it saves. A loss that is
not finite is noticed at the first such recorded step; for AlgoPerf, each of 1,000 points counts as a step.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guard_bench.replay import RULES, stopped_at
from guard_bench.runs import CHOOSE, REPORT, Run, is_in, load_runs
from scipy.stats import beta

from opttune import Guard

DATA = Path(__file__).parents[2] / "shared" / "data"
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
CANDIDATES = {
    "blow_up_ratio": (1.1, 1.5, 2.0, 3.0),
    "runaway_ratio": (3.0, 10.0, 30.0, 100.0),
    "stall_ratio": (1.0, 0.995, 0.98, 0.95),
}
"""From the least strict to the most for the stall, the other way round for the others."""
Stops = Sequence[tuple[Run, dict[str, int]]]


def upper_bound(killed: int, of: int) -> float:
    """Return the upper end of the one-sided 95% interval of a share (Clopper-Pearson)."""
    return 1.0 if killed >= of else float(beta.ppf(0.95, killed + 1, of - killed))


def replay(runs: Sequence[Run], guard: Guard) -> Stops:
    return [(run, stopped_at(run, guard)) for run in runs]


def share_of_length(run: Run, stops: dict[str, int], rules: Sequence[str]) -> float | None:
    steps = [stops[rule] for rule in rules if rule in stops]
    return min(steps) / run.total_steps if steps else None


def report(label: str, stops: Stops) -> None:
    failures = [one for one in stops if one[0].failed]
    best = {
        name: [one for one in stops if one[0].rank < most and not one[0].failed]
        for name, most in (("top 10%", 0.1), ("top 25%", 0.25))
    }
    print(f"\n{label}: {len(stops)} runs, {len(failures)} failed")
    print(f"  {'rule':24}{'by':>6}{'failures caught':>17}{'steps saved':>13}", end="")
    print("".join(f"{name + ' killed (95% <)':>26}" for name in best))
    for rules in (*((rule,) for rule in RULES), RULES[:2], RULES):
        for share in SHARES:
            if rules == ("stall",) and share < 0.1:
                continue
            print(f"  {' + '.join(rules):24}{share:6.0%}", end="")
            caught = _killed(failures, rules, share)
            saved = sum(1 - (at or 1.0) for at in (_by(one, rules, share) for one in stops)) / len(stops)
            print(f"{caught / max(1, len(failures)):17.1%}{saved:13.1%}", end="")
            for group in best.values():
                killed = _killed(group, rules, share)
                print(f"{f'{killed} of {len(group)} ({upper_bound(killed, len(group)):.2%})':>26}", end="")
            print()


def _by(one: tuple[Run, dict[str, int]], rules: Sequence[str], share: float) -> float | None:
    at = share_of_length(*one, rules)
    return at if at is not None and at <= share else None


def _killed(stops: Stops, rules: Sequence[str], share: float) -> int:
    return sum(_by(one, rules, share) is not None for one in stops)


def choose(runs: Sequence[Run]) -> Guard:
    """Return the strictest thresholds that kill none of the top quarter of these runs, each by itself."""
    good = [run for run in runs if run.rank < 0.25 and not run.failed]
    chosen = Guard()
    print(f"Choosing on {len(runs)} runs of {', '.join(sorted({run.problem for run in runs}))}")
    for name, values in CANDIDATES.items():
        # the strictest first
        for value in values if name != "stall_ratio" else sorted(values):
            off = {"stall": False} if name != "stall_ratio" else {"blow_up": False}
            others = {other: 1e30 for other in ("blow_up_ratio", "runaway_ratio") if other != name}
            guard = replace(Guard(**off), **{**(others if name != "stall_ratio" else {}), name: value})
            rule = "stall" if name == "stall_ratio" else "blow_up"
            killed = sum(rule in stopped_at(run, guard) for run in good)
            print(f"  {name} {value:g}: {killed} of {len(good)} top-quarter runs killed", flush=True)
            if killed == 0:
                chosen = replace(chosen, **{name: value})
                break
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sources", nargs="+", default=("own", "deepobs", "algoperf"))
    parser.add_argument("--no-choice", action="store_true", help="report the defaults alone")
    options = parser.parse_args()
    runs = {source: load_runs(source, options.data) for source in options.sources}
    everything = [run for own in runs.values() for run in own]
    settings = {"the defaults": Guard()}
    if not options.no_choice:
        chosen = choose([run for run in everything if is_in(run, CHOOSE)])
        named = {name: getattr(chosen, name) for name in CANDIDATES}
        print(f"Chosen: {named}; the defaults: { {name: getattr(Guard(), name) for name in CANDIDATES} }")
        settings["chosen on the other part"] = chosen
    for name, guard in settings.items():
        held_out = {source: [run for run in own if is_in(run, REPORT)] for source, own in runs.items()}
        stops = {source: replay(own, guard) for source, own in held_out.items()}
        for source, own in stops.items():
            report(f"{source}, {name}, on problems that nothing was chosen on", own)
        report(
            f"all sources, {name}, on problems that nothing was chosen on",
            [one for own in stops.values() for one in own],
        )


if __name__ == "__main__":
    main()
