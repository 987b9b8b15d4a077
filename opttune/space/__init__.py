"""Spaces: from a YAML file to a `Space`, and from a `Space` to recipes."""
