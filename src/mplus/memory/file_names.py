"""Names of the files in the directory of a stored memory or a long-term store. Knows no content, and brings no torch."""

from __future__ import annotations

import re

MANIFEST = "manifest.json"
LOCK = ".store.lock"
SAVE_LOCK = ".save.lock"
SAVING = ".saving-"
"""How a directory begins in which a save makes its files; only one saves at a time."""
ASIDE = re.compile(r"\.(aside|saving)-[0-9a-f]{16}")
"""Directories in which files are made before they are renamed to where they belong."""
SEGMENT = re.compile(r"\.?segment-[0-9a-f]{16}\.safetensors")
"""With a dot, what a killed process of an earlier version left of one."""
STATE = re.compile(r"memory-[0-9a-f]{16}\.safetensors|source-[0-9a-f]{16}\.encrypted|\.?manifest\.json(\.[0-9a-f]+)?")
"""Data files, encrypted sources and manifests, half ones too."""
TEMPORARY = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""What a killed save of an earlier version left: no reason to refuse a directory, and not known well enough to be removed."""


def is_segment(name: str) -> bool:
    """Whether it is a segment's, or of what a crash left of one."""
    return SEGMENT.fullmatch(name) is not None


def is_beside(name: str) -> bool:
    """Whether stores and saves put it beside a memory, or leave it after a kill."""
    return name in (LOCK, SAVE_LOCK) or is_segment(name) or bool(ASIDE.fullmatch(name) or TEMPORARY.fullmatch(name))


def is_ours(name: str) -> bool:
    """Whether it is of a stored memory, whole or half, or stands beside one."""
    return STATE.fullmatch(name) is not None or is_beside(name)
