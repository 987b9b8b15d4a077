"""What to try next and which trials continue: pure functions of values."""
