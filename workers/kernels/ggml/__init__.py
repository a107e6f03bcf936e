"""Types of ggml: its own library, and weights out of its blocks."""
