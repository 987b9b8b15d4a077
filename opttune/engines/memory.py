"""The memory of this process and of its devices, and its release after a training."""

import gc
import os
import resource
import sys
from pathlib import Path

import torch

_GROWTH_BYTES = 1 << 25


def rss_bytes() -> int:
    """Return the bytes of main memory that this process uses; its peak if the current value is unknown.

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
    """Frees the memory of ended trainings: a Trainer and its module form a reference cycle, which Python collects late.

    A collection takes a tenth of a second, so it runs only if memory has grown, or always on a GPU, whose memory is not
    measured.
    """

    def __init__(self) -> None:
        self._least = rss_bytes()

    def collect(self) -> None:
        """Collect, if memory has grown."""
        on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if not on_gpu and rss_bytes() < self._least + _GROWTH_BYTES:
            return
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
        self._least = rss_bytes()
