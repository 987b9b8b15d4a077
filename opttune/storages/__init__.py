"""Where a study is kept, and which process holds what of it."""
