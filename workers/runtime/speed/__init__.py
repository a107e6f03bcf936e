"""How fast an export makes text in its own runtime, on this machine."""
