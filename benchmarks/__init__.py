"""What the product is measured against; run from the root of the repository."""
