"""Run examples in their full size and store their output for the docs.

python benchmarks/run_examples.py                 # all
python benchmarks/run_examples.py cnn.py lstm.py  # some
python docs/tables.py                             # then write the page
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures" / "examples.json"
# the last lines are the answer, the others the search's progress
LINES = {
    "digits.py": 3,
    "fine_tuning.py": 6,
    "large_batch.py": 5,
    "lora.py": 4,
    "mnist_table.py": 11,
    "own_objective.py": 1,
    "ray_cluster.py": 3,
}


def run_example(name: str) -> dict[str, object]:
    """Run an example in an empty folder and return what it printed last."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "examples" / name)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} fails:\n{done.stderr}")
    printed = "\n".join(done.stdout.strip().splitlines()[-LINES.get(name, 2) :])
    return {"command": f"python examples/{name}", "printed": printed}


def main() -> None:
    figures = json.loads(FIGURES.read_text())
    for name in sys.argv[1:] or [name for name, figure in figures.items() if "--" not in figure["command"]]:
        began = time.monotonic()
        figures[name] = run_example(name)
        print(f"{name}: {time.monotonic() - began:.0f} s\n{figures[name]['printed']}", flush=True)
        FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
