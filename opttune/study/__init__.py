"""The configuration and the results of a search."""
