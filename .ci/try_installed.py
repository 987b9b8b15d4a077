"""Search, in an empty folder, with the opttune that is installed in an environment, and look at what came of it.

python .ci/try_installed.py ENVIRONMENT
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

environment, digits = Path(sys.argv[1]).resolve(), Path(__file__).resolve().parents[1] / "examples" / "digits.py"
command = [
    environment / "bin" / "opttune", "search", f"{digits}:DigitsClassifier", f"{digits}:digits_loaders",
    "--max-steps", "30", "--budget", "3", "--json",
]  # fmt: skip
# nothing of the checkout is to be found
outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(command, cwd=folder, env=outside, stdout=subprocess.PIPE, text=True, check=True)
result = json.loads(done.stdout.splitlines()[-1])
problems = [warning for warning in result["warnings"] if "MLflow" in warning]
assert result["best_value"] < result["baseline_value"], result
assert not problems, problems
print(f"{environment.name}: val_loss {result['best_value']:.4f}, baseline {result['baseline_value']:.4f}")
