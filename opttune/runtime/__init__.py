"""The one loop that trains, and what it needs to record, show and stop trainings."""
