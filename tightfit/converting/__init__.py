"""A plan applied to a model without a search: its levels built, its files written and proved."""
