"""The training loop, and its parts that record, show and stop trainings."""
