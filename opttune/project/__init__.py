"""A LightningCLI project -> model, data and Trainer settings of a search."""
