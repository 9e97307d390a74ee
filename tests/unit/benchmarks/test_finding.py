"""What is counted as read, by row and over all rows."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.finding import shares, show


def test_an_answer_counts_where_every_layer_read_it_and_only_if_it_was_traced(tmp_path: Path) -> None:
    def sample(system: str, row: str, distance: int, read: list[bool] | None) -> str:
        traced = None if read is None else {"answer_read": read}
        return json.dumps({"system": system, "row": row, "distance": distance, "read": traced})

    lines = [
        sample("mplus", "", 16_000, [True]),
        sample("mplus", "", 16_000, [True, False]),
        sample("mplus", "", 160_000, [True]),
        sample("bm25", "", 16_000, [False]),
        sample("bm25", "", 160_000, None),
    ]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = shares(tmp_path / "samples.jsonl")
    assert found == {
        ("16k", "mplus"): (1, 2),
        ("160k", "mplus"): (1, 1),
        ("16k", "bm25"): (0, 1),
        ("all", "mplus"): (2, 3),
        ("all", "bm25"): (0, 1),
    }
    assert show("retention-nq", found).row_count == 3
