"""Turn a chosen plan into files that run, and a front into a report that people read."""
