"""What a search found, to look at: an HTML page, images, and the same in short on the terminal."""

from opttune.report.write import write_report

__all__ = ["write_report"]
