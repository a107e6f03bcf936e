"""How values of a level are stored; a coding is a line here, in builder_table, versions and kernel_table."""
