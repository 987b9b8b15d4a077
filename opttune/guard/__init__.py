"""The guard, which stops a training run that diverges or stalls in its first steps."""
