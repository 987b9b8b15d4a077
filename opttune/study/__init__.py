"""The configuration of the search, and what it gave."""
