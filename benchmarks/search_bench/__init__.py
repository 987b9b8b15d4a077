"""The parts of `benchmarks/search.py`: recorded tables, real tasks, the methods, and what is printed of them."""
