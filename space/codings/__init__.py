"""How the values of a level are stored, one file a coding; `coding_table` lists them."""
