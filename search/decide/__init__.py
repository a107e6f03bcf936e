"""What to try next: pure functions of the space and what was observed."""
