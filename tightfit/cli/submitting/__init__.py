"""`tightfit submit`: its options, presets and files, read into one checked request."""
