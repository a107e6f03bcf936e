"""How far a job is, and how long it still takes."""
