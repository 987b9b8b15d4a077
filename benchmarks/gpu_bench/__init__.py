"""The checks of `on_gpu.py`."""
