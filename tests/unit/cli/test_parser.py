import subprocess
import sys
import time
from pathlib import Path

import pytest

from opttune.cli import BAD_INPUT, main
from opttune.errors import OpttuneError
from tests.support.searches import command_env


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(OpttuneError, match="no file"):
        main(["search", "nowhere.py:Model", "--max-steps", "5", "--debug"])


@pytest.mark.parametrize("arguments", [[], ["serach"], ["spaces"], ["search", "a.py:b", "--bugdet", "3"]])
def test_what_argparse_refuses_is_exit_code_2_too(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == BAD_INPUT


@pytest.mark.parametrize("arguments", [["--help"], ["spaces", "list"], ["optimizers", "--json"], ["schedules", "wsd"]])
def test_help_and_listings_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom opttune.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'vl_convert', 'mlflow', 'optuna', 'lightning', 'pytorch_lightning'}\n"
        "print('heavy:', *heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=command_env(), check=True)

    assert done.stdout.splitlines()[-1] == "heavy:"


def test_help_is_there_in_no_time(tmp_path: Path) -> None:
    def best_of_five(*arguments: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, env=command_env(), check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best_of_five("-m", "opttune", "--help") - best_of_five("-c", "pass") < 0.5
