"""How much memory this process holds."""

import os
import resource
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Return the bytes of main memory that this process holds now; the most it ever held where that is unknown.

    Example:
        >>> resident_bytes() > 1_000_000
        True
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
