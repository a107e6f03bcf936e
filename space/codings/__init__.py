"""How values of a level are stored; a coding is a line here, in builder_table and in kernel_table."""
