"""How each target's files are written and loaded again, one file a target; `writer_table` lists them."""
