"""What changes values after a plan is chosen."""
