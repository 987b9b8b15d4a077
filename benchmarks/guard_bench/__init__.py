"""Parts of `benchmarks/guard.py`."""
