"""`python -m mplus.cli` is the command `mplus`."""

import sys

from mplus.cli.app import main

sys.exit(main())
