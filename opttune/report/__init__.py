"""The report of a search: an HTML page, images, and a summary for the terminal."""

from opttune.report.write import write_report

__all__ = ["write_report"]
