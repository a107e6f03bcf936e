"""What users write to ask for a job: presets, and files that hold a whole request."""
