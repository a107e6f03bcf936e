"""Model folders and the hub: found, checked, pinned to their content, read where they lie."""
