"""All code that depends on the internals of Lightning's Trainer."""
