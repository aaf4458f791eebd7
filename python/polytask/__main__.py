"""`python -m polytask` is the command `polytask`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
