"""Export a recipe as a recipe file, a LightningCLI or Hydra config, or plain torch code."""

from opttune.export.study import Exported, export_recipe, export_study

__all__ = ["Exported", "export_recipe", "export_study"]
