"""The recipe of a search for a training of another length."""
