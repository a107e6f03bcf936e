"""Keys and values of attention as a runtime remembers them."""
