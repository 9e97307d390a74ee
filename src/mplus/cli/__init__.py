"""The command `mplus`: one file per command. Importing it loads neither torch nor transformers."""

from mplus.cli.app import main

__all__ = ["main"]
