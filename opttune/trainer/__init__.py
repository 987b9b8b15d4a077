"""Everything that depends on how Lightning's Trainer works."""
