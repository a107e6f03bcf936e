"""How each target's files are written, and what a user types to load them."""
