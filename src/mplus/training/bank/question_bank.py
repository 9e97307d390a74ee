"""A memory bank with questions about its chunks, ready to be asked. Knows models, no objective.

Legend: C chunks, T tokens of a chunk, L layers, H kv heads, E head width, F search width, V searched layers, D width, m blocks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mplus.memory.rows import Rows
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.text.search_query import last_user_turn
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.bank.memory_bank import MemoryBank
from mplus.training.bank.question_states import Form, chat_ids, question_states
from mplus.training.data.document import Document, Question

LONGEST_ANSWER_TOKENS = 16


@dataclass(frozen=True)
class PreparedQuestion:
    """A question about a chunk, tokenised.

    Attributes:
        text, form: the question and how it is asked.
        prompt, answer: token ids; the answer ends with the end-of-turn token.
        states: [V, t, D] what the retriever searches with.
        span: tokens of the chunk where the answer stands.
    """

    text: str
    form: Form
    prompt: list[int]
    answer: list[int]
    states: Tensor
    span: tuple[int, int]
    kind: str
    is_fact: bool


class QuestionBank(MemoryBank):
    """Keys, values, search keys and questions of C chunks of one document each, a row for each text token.

    Args:
        ratio: see ``ChunkEncoder.stream``.

    Attributes:
        questions: C lists.
        ids: [C, T].
    """

    def __init__(
        self,
        model: MPlusModel,
        chunks: int,
        tokens: int,
        *,
        per_chunk: int,
        forms: dict[Form, float],
        randomness: random.Random,
        ratio: Callable[[], int] = lambda: 1,
    ) -> None:
        assert isinstance(model.parts.retriever, LateInteractionRetriever)
        self.model, self.retriever = model, model.parts.retriever
        self.per_chunk, self.forms, self.random, self.ratio = per_chunk, forms, randomness, ratio
        encoder = ChunkEncoder(model, self.retriever.layers, "kv")
        super().__init__(encoder, chunks, torch.device("cpu"), {"search": (1, self.retriever.search_width)})
        del self.fields["states"]  # needed for the search keys only
        self.ids = torch.zeros(chunks, tokens, dtype=torch.int64)
        self.questions: list[list[PreparedQuestion]] = [[] for _ in range(chunks)]

    def add_chunks(self, documents: Sequence[Document]) -> None:
        """Encode documents of one chunk as a stream and prepare questions about each."""
        chosen = [self.random.sample(one.questions, min(self.per_chunk, len(one.questions))) for one in documents]
        prepared = iter(self.prepare([question for questions in chosen for question in questions]))
        for place, document, questions in zip(self.add(documents, self._encoded(documents)), documents, chosen, strict=True):
            self.ids[place] = torch.tensor(document.chunks[0])
            self.questions[place] = [next(prepared) for _ in questions]

    def scores(self, asked: list[PreparedQuestion], follows: Tensor, block: int) -> Tensor:
        """Scores [R, m] of all windows as late interaction gives them; prompts are padded on the left, as there.

        Args:
            follows: [m] whether the next block is the next one of the text.
            block: text tokens of a block.
        """
        length = max(one.states.shape[1] for one in asked)
        states = asked[0].states.new_zeros(asked[0].states.shape[0], len(asked), length, asked[0].states.shape[2])
        mask = torch.zeros(len(asked), length, dtype=torch.bool)
        for row, one in enumerate(asked):
            states[:, row, length - one.states.shape[1] :] = one.states
            mask[row, length - one.states.shape[1] :] = True
        with torch.no_grad():
            query, weight = self.retriever.queries(list(states), mask)
            return self.retriever.block_scores(query, weight, self.fields["search"][0], block, follows)

    def prepare(self, questions: list[Question]) -> list[PreparedQuestion]:
        """Draw how each question is asked and take the states it searches with."""
        tokenizer = self.model.tokenizer
        forms = self.random.choices(list(self.forms), list(self.forms.values()), k=len(questions))
        prompts = [chat_ids(tokenizer, question.text, form=form) for question, form in zip(questions, forms, strict=True)]
        if not prompts:
            return []
        queries = [last_user_turn(tokenizer, prompt) for prompt in prompts]
        states, mask = question_states(self.model, self.retriever.layers, queries)
        out = []
        for row, (question, form, prompt) in enumerate(zip(questions, forms, prompts, strict=True)):
            text = f" {question.answer}{tokenizer.eos_token}"  # the space: the very tokens that stand in the text can be copied
            answer = tokenizer(text, add_special_tokens=False)["input_ids"][:LONGEST_ANSWER_TOKENS]
            own = states[:, row, mask[row]].contiguous()
            out.append(PreparedQuestion(question.text, form, prompt, answer, own, question.span, question.kind, question.is_fact))
        return out

    def state(self) -> dict[str, Any]:
        """Everything, for a checkpoint; in the form of the first version."""
        previous = self.encoder.previous
        rows = 0 if previous is None else previous["keys"].shape[0]
        return {
            **{name: self.fields[name] for name in ("keys", "values")},
            "search": self.fields["search"][0],
            "ids": self.ids,
            "asked": [[vars(one) for one in questions] for questions in self.questions],
            "next": self._next % self.chunks,
            "tail": None if previous is None else [{name: previous[name][row] for name in previous} for row in range(rows)],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        for name, value in {"keys": state["keys"], "values": state["values"], "search": state["search"][None]}.items():
            self.fields[name].copy_(value)
        self.ids.copy_(state["ids"])
        self.questions = [[self.restored(one) for one in questions] for questions in state["asked"]]
        self._next, tail = int(state["next"]), state["tail"]
        self.encoder.previous = (
            None if tail is None else {name: torch.stack([one[name] for one in tail]) for name in ("keys", "values")}
        )

    @staticmethod
    def restored(fields: dict[str, Any]) -> PreparedQuestion:
        """A question of a checkpoint."""
        return PreparedQuestion(**{**fields, "span": tuple(fields["span"])})

    def _encoded(self, documents: Sequence[Document]) -> Iterator[Rows]:
        for rows in self.encoder.stream([document.chunks[0] for document in documents], self.ratio):
            rows["search"] = self.retriever.keys(list(rows["states"].unbind(1)))[:, None]
            yield from ({name: value[row] for name, value in rows.items()} for row in range(len(rows["search"])))
