"""The verdict: the winner of a search, tested on new seeds."""
