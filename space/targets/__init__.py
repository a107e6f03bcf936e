"""What a runtime can hold, one file a target; `target_table` lists them."""
