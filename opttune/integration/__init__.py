"""opttune inside an Optuna study of the user's own."""
