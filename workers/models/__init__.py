"""Models and text: resolve and check a model folder, list its modules, read text, load weights, run block by block."""
