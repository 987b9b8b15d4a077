"""Record the gallery of the docs: for each scenario a search and its verdict, by the commands that its page shows.

python benchmarks/gallery.py               # all
python benchmarks/gallery.py vision lora   # some; lora needs the extra examples-lora
python docs/tables.py                      # then write the pages
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opttune.confirming.verdict import study_verdict
from opttune.report.draw import save_chart
from opttune.report.trials import optimizer_colours, trials_of
from opttune.report.values import best_over_cost, improvement_rows
from opttune.storages.open_storage import quiet_optuna
from opttune.study.answer import answer_of
from opttune.study.frozen_study import FrozenStudy, load_study
from opttune.version import __version__

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures" / "gallery.json"
PICTURES = ROOT / "docs" / "images" / "gallery"
SEED = 0


@dataclass(frozen=True)
class Scenario:
    """The commands of one page of the gallery.

    Attributes:
        name: Name of the page and of the study.
        model: The module, as the command takes it, below `examples`.
        data: Its loaders, likewise.
        max_steps: Full length of one training.
        budget: Cost of the search in full trainings.
        seeds: Seeds of the verdict.
        options: Further options of the search.
    """

    name: str
    model: str
    data: str
    max_steps: int
    budget: float
    seeds: int = 5
    options: str = ""

    @property
    def search(self) -> str:
        """The command that searches."""
        return (
            f"opttune search examples/{self.model} examples/{self.data} --study {self.name} "
            f"--max-steps {self.max_steps} --budget {self.budget:g} {self.options}".strip()
        )

    @property
    def confirm(self) -> str:
        """The command that gives the verdict."""
        return f"opttune confirm {self.name} --top 1 --seeds {self.seeds}"


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("vision", "cnn.py:DigitsCnn", "cnn.py:loaders", 200, 8),
        Scenario("transformer", "language_model.py:CharacterTransformer", "language_model.py:loaders", 80, 6, seeds=3),
        Scenario("fine_tuning", "fine_tuning.py:LoopCounter", "fine_tuning.py:loop_loaders", 150, 8,
                 options="--space examples/spaces/fine_tuning.yaml"),
        Scenario("lora", "lora.py:NameFinder", "lora.py:make_loaders", 30, 4, seeds=3,
                 options="--space lora --monitor recall_at_1 --mode max --trainer accelerator=cpu"),
        Scenario("memory", "language_model.py:CharacterTransformer", "language_model.py:loaders", 60, 8, seeds=3,
                 options="--space memory_constrained"),
        Scenario("reinforcement_learning", "policy_gradient.py:PolicyGradient", "policy_gradient.py:loaders", 40, 6,
                 options="--space rl --monitor mean_return --mode max --no-guard"),
        Scenario("rnn", "lstm.py:CharacterLstm", "lstm.py:loaders", 80, 6, seeds=3, options="--space rnn"),
        Scenario("gan", "gan.py:Gan", "gan.py:point_loaders", 400, 10, seeds=3, options="--monitor val_distance"),
        Scenario("tables", "tabular.py:TableNet", "tabular.py:loaders", 300, 10, options="--space small_data"),
        Scenario("large_batch", "large_batch.py:LargeBatchClassifier", "large_batch.py:digits_loaders", 60, 8,
                 options="--space lamb_large_batch --trainer accumulate_grad_batches=8"),
    )
}  # fmt: skip


def record(scenario: Scenario, pictures: Path) -> dict[str, Any]:
    """Run a scenario's commands in an empty folder, draw its picture, and return their record."""
    with TemporaryDirectory() as folder:
        here = Path(folder)
        # the commands name the files as a clone of the repository does
        (here / "examples").symlink_to(ROOT / "examples")
        searched, search_seconds = run(scenario.search, here)
        confirmed, confirm_seconds = run(scenario.confirm, here)
        with quiet_optuna():
            study = load_study(here / "opttune_runs" / scenario.name)
        draw(study, pictures / f"{scenario.name}.svg")
        optimizers, answer, verdict = optimizer_rows(study), answer_of(study), study_verdict(study)
    assert answer.recipe is not None
    assert verdict is not None
    return {
        "search": scenario.search,
        "confirm": scenario.confirm,
        "seed": SEED,
        "seconds": {"search": round(search_seconds, 1), "confirm": round(confirm_seconds, 1)},
        "versions": versions(),
        "monitor": study.config.monitor,
        "total_steps": study.total_steps,
        "began": [line for line in searched.stderr.splitlines() if line.startswith(("opttune: ", "replaces "))],
        "answer": answer_in(searched.stdout),
        "verdict_printed": confirmed.stdout.strip().splitlines(),
        "best_value": answer.value,
        "baseline_value": answer.baseline_value,
        "best_recipe": answer.recipe.to_dict(),
        "best_over_cost": improvement_rows(study),
        "optimizers": optimizers,
        "verdict": verdict.to_dict(),
    }


def run(command: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a command of opttune, and return it and its seconds."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PL_"))}
    environment = {**ours, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    arguments = [sys.executable, "-m", *shlex.split(command)]
    began = time.monotonic()
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} fails:\n{done.stderr}")
    return done, time.monotonic() - began


def answer_in(printed: str) -> list[str]:
    """Return the answer of a search: what it prints below the table of its trials."""
    lines = printed.strip().splitlines()
    begins = next(number for number, line in enumerate(lines) if line.startswith("best "))
    return lines[begins:]


def draw(study: FrozenStudy, path: Path) -> None:
    """Draw the best value over full trainings; the report's figure shows it over seconds as well."""
    chart = best_over_cost(study)
    assert chart is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    save_chart(replace(chart, panels=chart.panels[:1]), path)


def optimizer_rows(study: FrozenStudy) -> list[dict[str, Any]]:
    """Return the baseline and each optimizer: its trials, the best that it gave, and the bytes of its state."""
    baseline = study.baseline
    rows: list[dict[str, Any]] = []
    if baseline is not None:
        rows.append({"optimizer": "baseline", "trials": 1, "best": baseline.value, "state_bytes": baseline.state_bytes})
    for name in optimizer_colours(study):
        trials = trials_of(study.records, name)
        values = [trial.value for trial in trials if trial.value is not None]
        best = (min if study.config.mode == "min" else max)(values, default=None)
        state = max((trial.last.state_bytes for trial in trials if trial.last), default=0)
        rows.append({"optimizer": name, "trials": len(trials), "best": best, "state_bytes": state})
    return rows


def versions() -> dict[str, str]:
    """Return the versions that figures depend on."""
    libraries = ("torch", "lightning", "optuna")
    return {
        "opttune": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def main() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name in sys.argv[1:] or SCENARIOS:
        figures[name] = record(SCENARIOS[name], PICTURES)
        print(f"{name}: {figures[name]['seconds']}", *figures[name]["answer"][:2], sep="\n", flush=True)
        print(figures[name]["verdict"]["verdict"], flush=True)
        ordered = {known: figures[known] for known in SCENARIOS if known in figures}
        FIGURES.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
