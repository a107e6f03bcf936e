"""What is remembered: jobs, trials and measurements in SQL, fronts in MLflow."""
