"""What was measured, as values: front, document, price, explanation."""
