"""The tables and their history: each file of `versions/` takes a database one step further."""
