"""Word lists that stand beside a module in ``words.json``: entries of a list, or words of one text. Knows no task."""

from __future__ import annotations

import json
from pathlib import Path


def word_lists(module_file: str) -> dict[str, tuple[str, ...]]:
    """Lists by name."""
    lists: dict[str, str | list[str]] = json.loads(Path(module_file).with_name("words.json").read_text(encoding="utf-8"))
    return {name: tuple(words.split() if isinstance(words, str) else words) for name, words in lists.items()}
