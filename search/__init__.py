"""Chooses what to try; the only Optuna."""
