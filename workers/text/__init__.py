"""The text that a job calibrates and judges on: sources, records, tokenizer, tokens."""
