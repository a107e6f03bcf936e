"""Inputs of products as runtimes round them; a way to round is a line in input_table."""
