"""Compiled loops that multiply with packed weights on CPUs, without a dense copy."""
