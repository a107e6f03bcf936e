"""Values from outside, read strictly: JSON, addresses, types."""
