"""Files in folders that other processes read, write and delete from at the same time."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, data: str | bytes) -> None:
    """Replace a file atomically: write a temporary file beside it, then rename that one.

    A reader sees the old file or the new one, never a part. A kill in between leaves the old file, and beside it a file
    that ends in `.part`.

    Args:
        path: The file; its folder must exist.
        data: The contents; a text is written as UTF-8.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> write_whole(path, "first")
        >>> write_whole(path, "second")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('second', 1)
    """
    # a unique name: other processes may be writing the same file
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def files_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name.

    The list is empty if the folder cannot be read, or was removed at the same time; `Path.glob` may raise then.

    Example:
        >>> files_in(Path("never/made"))
        []
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda file: file.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty.

    Example:
        >>> remove_empty(Path("never/made"))
    """
    with suppress(OSError):
        folder.rmdir()
