"""`python -m tally_cli`, the same as `tally`."""

import sys

from tally_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
