"""`python -m tightfit` is the command `tightfit`."""

from tightfit.cli.app import main

if __name__ == "__main__":
    main()
