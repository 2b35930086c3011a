"""`python -m ledgate` is the `ledgate` command."""

import sys

from ledgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
