"""The second round of a search: the question together with the text that the first round found. Changes no memory.

Legend: B prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

from mplus.memory.memory import Memory
from mplus.retrieval.protocol import WindowRetriever
from mplus.retrieval.result import RetrievalResult
from mplus.text.prompts import Prompts
from mplus.trace.spans import Spans, ids_of


def second_prompts(
    retriever: WindowRetriever, memory: Memory, prompts: Prompts, results: Sequence[RetrievalResult], pad_id: int
) -> Prompts:
    """Put each question [B] behind the text of its best window, to search in the second round.

    Where that text was not kept, the question alone searches again and finds what it found.
    """
    rows = []
    for question, result in zip(prompts.rows(), results, strict=True):
        spans = Spans(memory)
        found = ids_of(spans.of(int(position)) for position in retriever.best_window(memory, result))
        rows.append([*(found or ()), *question])
    return Prompts.from_rows(rows, pad_id, prompts.ids.device)
