"""Names and numbers of EXL3 files; they need no torch."""

QUANT_METHOD = "exl3"
"""of config.json"""
VERSION = "1.6.5"
"""the release of exllamav3 whose files these are"""
MULTIPLIER = 0x83DCD12D
"""of the `mul1` codebook; files name the codebook by it"""
