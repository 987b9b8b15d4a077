"""A recipe in the form that somebody's code takes."""

from opttune.export.study import Exported, export_recipe, export_study

__all__ = ["Exported", "export_recipe", "export_study"]
