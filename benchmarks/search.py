"""Compare opttune's search with what people use, at equal cost in optimizer steps.

On recorded trainings (a search takes a second; the tables are described in `search_bench/tables.py`, and
`record_table.py` records two more in some minutes):

    python benchmarks/search.py replay --out replay.json --plot replay.png

On real trainings of small tasks (a search takes a minute; finished ones are kept, and a further call continues; needs
`pip install optuna-integration scikit-learn`):

    python benchmarks/search.py live --tasks mlp cnn --seeds 0,1,2 --jobs 2 --out live.jsonl
    python benchmarks/search.py report --from live.jsonl more.jsonl --plot live.png

The same on long trainings of modules that bring a good recipe (a search takes up to ten minutes):

    python benchmarks/search.py live --tasks long-develop --out long.jsonl
    python benchmarks/search.py live --tasks long_table --methods ours --budget 3 --seeds 0, --out long.jsonl
    python benchmarks/search.py report --from long.jsonl --log

`search_bench/tables.py`, `search_bench/tasks.py` and `search_bench/long_tasks.py` fix on which data thresholds are
chosen and on which they are reported.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from search_bench import live, live_report, long_report, replay_report
from search_bench.ablations import ABLATIONS
from search_bench.live_records import BUDGET, LiveRecord, read_records
from search_bench.load_tables import table_names
from search_bench.long_tasks import LONG_TASKS
from search_bench.replay import METHODS, Job, Record, make_jobs, run_all
from search_bench.tables import group_of
from search_bench.tasks import TASKS

_BUDGET_HELP = (
    f"full trainings, several for long tasks (default: {BUDGET:g}; for long tasks "
    f"{', '.join(f'{budget:g}' for budget in live.LONG_BUDGETS)})"
)
DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def main() -> None:
    """Run the command."""
    options = _parser().parse_args()
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    replay = commands.add_parser("replay", help="on recorded tables")
    replay.add_argument("--data", type=Path, default=DATA, help="folder with own/ and deepobs/")
    replay.add_argument("--tables", nargs="+", help="names, or DEVELOP, REPORT, REPORT_LONG; all unless given")
    replay.add_argument("--methods", nargs="*", default=METHODS, help=", ".join((*METHODS, *ABLATIONS)))
    replay.add_argument("--seeds", type=_seeds, default=range(10), help="a count, or numbers: 0,1,2 (default: 10)")
    replay.add_argument("--budget", type=float, default=25.0, help="full trainings (default: 25)")
    replay.add_argument("--jobs", type=int, default=1, help="processes")
    replay.add_argument("--out", type=Path, help="JSON file for every search's record")
    replay.add_argument("--add", nargs="+", type=Path, default=(), help="files of --out to show as well")
    replay.add_argument("--plot", type=Path, help="PNG file")
    replay.set_defaults(run=_replay)
    real = commands.add_parser("live", help="on real trainings")
    real.add_argument("--tasks", nargs="+", default=["short"], choices=[*live.GROUPS, *live.ALL_TASKS])
    real.add_argument("--methods", nargs="+", choices=dict.fromkeys((*live.METHODS, *live.LONG_METHODS, *ABLATIONS)))
    real.add_argument("--seeds", type=_seeds, default=range(5), help="a count, or numbers: 0,1,2 (default: 5)")
    real.add_argument("--budget", type=float, nargs="+", help=_BUDGET_HELP)
    real.add_argument("--jobs", type=int, default=1, help="processes")
    real.add_argument("--out", type=Path, required=True, help="JSON lines; what the file holds is not run again")
    real.add_argument("--plot", type=Path, help="PNG file")
    real.set_defaults(run=_live)
    report = commands.add_parser("report", help="on live searches that were run before")
    report.add_argument("--from", dest="files", nargs="+", type=Path, required=True, help="files of `live --out`")
    report.add_argument("--earlier", nargs="+", type=Path, default=(), help="files whose `ours` is shown as `earlier`")
    report.add_argument("--log", action="store_true", help="show each training of the long tasks' searches as well")
    report.add_argument("--plot", type=Path, help="PNG file")
    report.set_defaults(run=_report)
    return parser


def _seeds(text: str) -> Sequence[int]:
    """Read `10` as ten seeds, `0,3` as these, `3,` as one."""
    seeds = [int(part) for part in text.split(",") if part] if "," in text else range(int(text))
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text} are no seeds: write a count, or one seed as 0,")
    return seeds


def _replay(options: argparse.Namespace) -> None:
    tables = _choose_tables(options.tables, table_names(options.data))
    there = (*METHODS, *ABLATIONS)
    if unknown := set(options.methods) - {*there}:
        raise SystemExit(f"unknown methods {', '.join(sorted(unknown))}: there are {', '.join(there)}")
    jobs: list[Job] = make_jobs(tables, options.methods, options.seeds, options.budget, options.data)
    records: list[Record] = []
    for number, record in enumerate(run_all(jobs, options.jobs), start=1):
        records.append(record)
        print(f"\r{number} of {len(jobs)} searches", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    added = [Record.from_dict(fields) for path in options.add for fields in json.loads(path.read_text())]
    records = list({record.key: record for record in (*added, *records)}.values())
    print(replay_report.write_report(records))
    if options.out:
        options.out.write_text(json.dumps([record.to_dict() for record in records], indent=0))
    if options.plot:
        replay_report.save_plot(records, options.plot)


def _choose_tables(asked: Sequence[str] | None, there: Sequence[str]) -> list[str]:
    chosen = [name for name in there if asked is None or name in asked or group_of(name) in asked]
    if not chosen:
        raise SystemExit(f"none of the tables asked for is there. There are {', '.join(there) or 'none'}.")
    return chosen


def _live(options: argparse.Namespace) -> None:
    done = {record.key for record in read_records([options.out])}
    tasks = dict.fromkeys(task for name in options.tasks for task in live.GROUPS.get(name, (name,)))
    asked = live.make_keys(list(tasks), options.methods, options.seeds, options.budget)
    keys = [key for key in asked if key not in done]
    if not options.methods and not live.NEPS:
        print("NePS is not installed here, so it is left out (search_bench/with_neps.py)", file=sys.stderr)
    for number, record in enumerate(live.run_all(keys, options.jobs), start=1):
        words = f"{number} of {len(keys)}: {' '.join(map(str, record.key))}"
        if isinstance(record, live.Refused):
            print(f"{words} refused: {record.why}", file=sys.stderr, flush=True)
            continue
        with options.out.open("a") as file:
            file.write(record.to_json() + "\n")
        print(f"{words} {record.best():.4g} {record.seconds:.0f} s", file=sys.stderr, flush=True)
    _show_live(read_records([options.out]), options.plot)


def _report(options: argparse.Namespace) -> None:
    earlier = [replace(one, method="earlier") for one in read_records(options.earlier) if one.method == "ours"]
    records = [*read_records(options.files), *earlier]
    _show_live(records, options.plot)
    if options.log:
        print(f"\n{long_report.write_log([record for record in records if record.task in LONG_TASKS])}")


def _show_live(records: Sequence[LiveRecord], plot: Path | None) -> None:
    short = [record for record in records if record.task in TASKS]
    long = [record for record in records if record.task in LONG_TASKS]
    if short:
        print(live_report.write_report(short))
    if long:
        print(long_report.write_long_report(long))
    if plot:
        live_report.save_plot(records, plot)


if __name__ == "__main__":
    main()
