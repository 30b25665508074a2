"""Hyperparameter search over recipes and their parameters."""
