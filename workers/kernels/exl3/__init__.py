"""The coding of EXL3 files: what their bits stand for."""
