"""The level store, and the statistics that levels are built from."""
