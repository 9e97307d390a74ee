"""`mplus info`: what a stored memory holds, from its manifest; no model is opened unless one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import MemoryDirectory, Verbose
from mplus.errors import SnapshotError
from mplus.memory.manifest import read_manifest


def info(
    memory: MemoryDirectory,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Also check that this model can read the memory.", show_default="no check"),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Show what is in a memory: its model, tokens, sources and sizes."""
    facts = _facts(memory, read_manifest(memory))
    if model is not None:
        from mplus.memory.memory import Memory

        Memory.load(memory, open_model(model))
        facts["readable_by"] = model
    if as_json:
        terminal.say_json(facts)
    else:
        _show(facts)


def _facts(directory: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says that a person asks for."""
    try:
        geometry = manifest["geometry"]
        return {
            "memory": str(directory),
            "model": manifest["model"]["name"],
            "fingerprint": manifest["model"]["fingerprint"],
            "format": manifest["format"],
            "memory_format": manifest["memory_format"],
            "mplus": manifest["mplus"],
            "tokens_read": manifest["tokens_read"],
            "stm_tokens": manifest["stm_tokens"],
            "stm_capacity": geometry["stm_tokens"],
            "ltm_tokens": manifest["ltm_tokens"],
            "ltm_capacity": geometry["ltm_capacity"] if geometry["ltm"] else 0,
            "pending_tokens": sum(len(ids) for _, ids in manifest["pending"]),
            "chunks": len(manifest["chunks"]),
            "sources": manifest["sources"],
            "size_bytes": manifest["data"]["bytes"] + _segment_bytes(manifest),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the manifest of {directory} is damaged ({type(error).__name__}: {error}); restore it") from None


def _segment_bytes(manifest: dict[str, Any]) -> int:
    """Of long-term rows that lie in files of their own."""
    return sum(segment["bytes"] for group in manifest.get("ltm_segments", []) for segment in group["segments"])


def _show(facts: dict[str, Any]) -> None:
    rows = {
        "memory": facts["memory"],
        "model": f"{facts['model']} ({facts['fingerprint'][:12]})",
        "format": f"{facts['format']}, {facts['memory_format']}, written by mplus {facts['mplus']}",
        "read": f"{facts['tokens_read']:,} tokens in {facts['chunks']:,} chunks",
        "short-term": f"{facts['stm_tokens']:,} of {facts['stm_capacity']:,} tokens",
        "long-term": f"{facts['ltm_tokens']:,} of {facts['ltm_capacity']:,} tokens",
        "waiting": f"{facts['pending_tokens']:,} tokens, for more text",
        "size": f"{facts['size_bytes'] / 1e6:,.1f} MB",
    }
    if "readable_by" in facts:
        rows["readable by"] = facts["readable_by"]
    terminal.results().print(terminal.facts(rows))
    sources = terminal.table("source", "tokens")
    for name, tokens in facts["sources"].items():
        sources.add_row(name or "(no name)", f"{tokens:,}")
    if facts["sources"]:
        terminal.results().print()
        terminal.results().print(sources)
