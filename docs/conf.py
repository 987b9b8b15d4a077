"""How Sphinx builds the docs: `sphinx-build -W docs site`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from opttune.version import __version__

project = "opttune"
copyright = "the opttune authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["figures", "*.py"]
html_theme = "furo"
html_title = f"opttune {__version__}"
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# links to other sites are not followed: the build needs no network
nitpicky = False
