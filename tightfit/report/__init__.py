"""A front as one HTML page, and as a frame for notebooks."""
