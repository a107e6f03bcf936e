"""Exports in transformers: the packed format, and the fresh process that verifies."""
