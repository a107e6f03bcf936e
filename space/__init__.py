"""What may be chosen and what was measured: pure values, no tensors, no files, no clock.

Names follow one rule everywhere: `_id` names one thing, `_digest` is a sha256 of canonical content, `_bytes` counts
bytes and `_seconds` seconds. All objectives are minimised.
"""
