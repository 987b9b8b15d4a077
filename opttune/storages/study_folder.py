"""The folders of searches under `opttune_runs`. Nothing slow is imported here: the command looks here first."""

import re
from pathlib import Path

from opttune.errors import InputError
from opttune.shared_folder import files_in

RUNS = Path("opttune_runs")


def folder_name(study_name: str) -> str:
    """Return a study's name as the name of a folder.

    Example:
        >>> folder_name("Net: wide/2")
        'Net_wide_2'
    """
    return re.sub(r"[^\w.-]+", "_", study_name).strip(".") or "_"


def study_folders() -> list[Path]:
    """Return the folders of all searches under `opttune_runs`."""
    return [Path(folder) for folder in files_in(RUNS) if folder.is_dir()]


def study_folder(study: str, where: str = "STUDY", in_storage: bool = False) -> Path:
    """Return the folder with the journal of a study.

    Args:
        study: Name of the study, or the folder of its search.
        where: The place that errors name.
        in_storage: Whether a storage was given and has no such study.

    Raises:
        InputError: There is none.
    """
    folders = [folder for folder in (Path(study), RUNS / folder_name(study)) if _has_journal(folder)]
    if not folders:
        looked_in = f"the storage, {study}" if in_storage else study
        raise InputError(
            f"{where}: there is no study {study!r} (looked in {looked_in} and {RUNS / folder_name(study)}). "
            f"Give the name of a study, or the folder of its search.{_known()}"
        )
    return folders[0]


def _known() -> str:
    names = [folder.name for folder in study_folders() if _has_journal(folder)]
    return f" Here are: {', '.join(names[:8])}." if names else ""


def _has_journal(folder: Path) -> bool:
    return (folder / "study.journal").is_file()
