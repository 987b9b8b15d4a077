"""Files that stand there whole or not at all, whoever else writes them and whenever this process is killed."""

from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file beside its place and move it there in one step; an earlier one of that name is replaced.

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
