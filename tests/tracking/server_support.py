"""A real `mlflow server` on loopback that can be killed and started again."""
