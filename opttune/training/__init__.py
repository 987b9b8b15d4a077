"""Train one recipe in a Trainer, from one step to another, and return the outcome."""
