"""The verdict: what the winner of a search is worth on other seeds."""
