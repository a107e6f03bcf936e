"""MLflow: a projection of the records that may fail without harm."""
