"""Write to MLflow and read from it; the only package that uses mlflow, which takes seconds to import."""
