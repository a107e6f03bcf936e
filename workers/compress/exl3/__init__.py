"""Making levels of the coding of EXL3 files: the search for symbols, feedback between tiles, scales."""
