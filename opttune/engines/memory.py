"""How much memory this process holds, and how what trainings leave behind is given back."""

import gc
import os
import resource
import sys
from pathlib import Path

import torch

_GROWTH_BYTES = 1 << 25


def rss_bytes() -> int:
    """Return the bytes of main memory that this process holds now; the most it ever held where that is unknown.

    Example:
        >>> rss_bytes() > 1_000_000
        True
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


class GarbageCollector:
    """Gives back what trainings leave: a Trainer and its module hold one another, and Python looks for that too rarely.

    Looking takes a tenth of a second, so it is done where memory has grown; on a GPU nobody sees that from here.
    """

    def __init__(self) -> None:
        self._least = rss_bytes()

    def sweep(self) -> None:
        """Look, if it is time."""
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if not on_gpu and rss_bytes() < self._least + _GROWTH_BYTES:
            return
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
        self._least = rss_bytes()
