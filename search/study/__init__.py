"""The Optuna study, its samplers, plans as parameters."""
