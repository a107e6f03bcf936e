"""Real models of families that are no language models."""
