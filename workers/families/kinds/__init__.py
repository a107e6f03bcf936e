"""Kinds of models, one file each; `family_table` lists them."""
