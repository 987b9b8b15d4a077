"""What to try next and which trials go on: pure functions of values."""
