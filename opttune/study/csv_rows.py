"""The rows of a CSV file that the user gives."""

import csv
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
            header = stream.readline()
            stream.seek(0)
            rows = list(csv.DictReader(stream, delimiter=max(",;\t", key=header.count)))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise InputError(f"{where}: the file {path} cannot be read: {err}.") from None
    # a longer row has cells without a name, a shorter one has names without a cell
    return [{name.strip(): (cell or "").strip() for name, cell in row.items() if name} for row in rows]
