"""Asking workers, and remembering their answers."""
