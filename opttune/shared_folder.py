"""Files in folders that other processes write, read and clear at the same time."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file beside its place and move it there in one step; an earlier one of that name is replaced.

    Who reads it sees the earlier one or this one, each whole. A kill in the middle leaves the earlier one, and beside
    it a file that ends in `.part`.

    Args:
        path: Where to; its folder must exist.
        data: What to write, a text as UTF-8.

    Raises:
        OSError: It cannot be written; nothing is left of it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> write_whole(path, "first")
        >>> write_whole(path, "second")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('second', 1)
    """
    # a name of its own, as others may be writing the same file
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def files_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, by name.

    Nothing does where it cannot be looked into, as with `Path.glob`, nor where it has just been removed; there
    `Path.glob` may raise.

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
    """Remove a folder unless something lies in it.

    Example:
        >>> remove_empty(Path("never/made"))
    """
    with suppress(OSError):
        folder.rmdir()
