"""What is measured on a machine with a GPU, in one bounded run: see tools/gpu_check.sh."""
