"""The steps of a job, in order."""
