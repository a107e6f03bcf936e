"""Students: models of fewer blocks, cut from a dense one and trained towards its answers."""
