"""The head-to-head of searches: every method asks the same arena, only the plan differs."""
