"""What a runtime can hold; a target is a line here, and in writer_table."""
