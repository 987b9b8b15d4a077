"""Pure functions that choose the next recipe and the trials to continue."""
