"""Every kind of level on real matrices: calibrated output error against stored bits, fixed seed."""
