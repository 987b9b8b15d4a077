"""Build torch's optimizer and scheduler from a recipe and a module's parameters."""
