"""``python -m benchmarks``: the same as ``mplus bench``."""

from __future__ import annotations

import sys

from mplus.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
