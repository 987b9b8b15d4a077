"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip.

torch is left to what is installed: of old releases there is no CPU build on the package index.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for dependency in [*project["dependencies"], *project["optional-dependencies"]["examples"]]:
    name, lowest = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", dependency).groups()
    if name != "torch":
        print(f"{name}=={lowest}")
# the first MLflow here knows no newer one, and does not say so
print("sqlalchemy<2.1")
