"""Read the model, data and Trainer settings of a search from a LightningCLI or Hydra project."""
