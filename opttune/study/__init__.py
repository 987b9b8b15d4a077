"""What a search is told, and what it gave."""
