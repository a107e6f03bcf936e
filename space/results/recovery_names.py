"""What can change the values of a chosen point, by name; `workers/recover/recovery_table.py` has the recoveries."""

RECOVERY_NAMES = ("refit", "scales", "low-rank", "restore", "quantization-aware")
"""From the cheapest to the dearest."""
AUTO = "auto"
"""The cheapest that helps, then the next while it pays."""
SHARDINGS = ("none", "zero-1", "zero-2", "zero-3")
"""What processes that train together divide: nothing, optimizer states, gradients too, what is trained too."""
