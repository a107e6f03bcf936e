"""How fast exports of the `packed` format run."""
