"""The commands that need no job: what is wrong with an installation, its demonstration, its MLflow."""
