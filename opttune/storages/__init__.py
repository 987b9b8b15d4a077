"""The storage of a study, and the processes that hold its trainings."""
