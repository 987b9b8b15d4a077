"""Export a recipe as a recipe file, a LightningCLI config or plain torch code."""

from opttune.export.study import Exported, export_recipe, export_study

__all__ = ["Exported", "export_recipe", "export_study"]
