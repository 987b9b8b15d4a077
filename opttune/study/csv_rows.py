"""The rows of a CSV file that the user gives."""

import csv
import re
from pathlib import Path

from opttune.errors import InputError


def read_csv_rows(path: Path, where: str) -> list[dict[str, str]]:
    """Return the rows of a file, by the names of its columns without the spaces around them.

    Args:
        path: The file; commas, semicolons or tabs separate its cells.
        where: The option that names it, for errors.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = stream.read().lstrip("\r\n").splitlines(keepends=True)
        separator = max(",;\t", key=lines[0].count) if lines else ","
        rows = list(csv.DictReader(lines, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise InputError(f"{where}: the file {path} cannot be read: {err}.") from None
    # a longer row has cells without a name, a shorter one has names without a cell
    return [{name.strip(): _read_cell(cell or "", separator) for name, cell in row.items() if name} for row in rows]


def _read_cell(cell: str, separator: str) -> str:
    """Return a cell without spaces around it; between semicolons, a comma in a number is a decimal point."""
    cell = cell.strip()
    return cell.replace(",", ".") if separator == ";" and re.fullmatch(r"-?\d+,\d+(e-?\d+)?", cell, re.I) else cell
