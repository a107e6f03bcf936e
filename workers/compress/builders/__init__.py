"""How values of each coding are made; a builder is a line in builder_table, and its version one in versions."""
