"""``python -m mplus ...``: the command line, also for launchers (``accelerate launch -m mplus train ...``)."""

from mplus.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
