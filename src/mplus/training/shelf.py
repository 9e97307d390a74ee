"""Written chunks on a shelf, with questions about them; fresh ones push out the oldest. Knows models, no objective.

Legend: C chunks, T tokens of a chunk, L layers, H kv heads, E head width, F search width, V voting layers, D width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.text.search_query import last_user_turn
from mplus.training.bank import Writer, chat_ids, question_states
from mplus.training.documents import DocumentMaker, Question

LONGEST_ANSWER_TOKENS = 16
Form = Literal["chat", "system", "plain"]


@dataclass(frozen=True)
class Asked:
    """A question about a chunk, ready to be asked.

    Attributes:
        text, form: the question and how it is asked.
        prompt, answer: token ids; the answer ends with the end-of-turn token.
        states: [V, t, D] what the vote sees of the prompt.
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


class Shelf:
    """Keys, values, search keys and questions of C chunks.

    Attributes:
        keys, values: [L, C * T, H, E]; search: [C * T, F].
        ids: [C, T].
        asked: C lists of questions.
    """

    def __init__(
        self,
        model: MPlusModel,
        makers: DocumentMaker,
        chunks: int,
        per_chunk: int,
        forms: dict[Form, float],
        randomness: random.Random,
    ) -> None:
        assert isinstance(model.attached.retriever, LateInteractionRetriever)
        self.model, self.makers, self.vote = model, makers, model.attached.retriever
        self.chunks, self.tokens, self.per_chunk, self.forms, self.random = chunks, makers.tokens, per_chunk, forms, randomness
        self.writer = Writer(model, self.vote)
        layout = model.writer.layout("kv", model.geometry)
        places = chunks * self.tokens
        shape = (layout.layers, places, *layout.fields["keys"])
        self.keys, self.values = (torch.zeros(shape, dtype=layout.dtype) for _ in range(2))
        self.search = torch.zeros(places, self.vote.search_width, dtype=layout.dtype)
        self.ids = torch.zeros(chunks, self.tokens, dtype=torch.int64)
        self.asked: list[list[Asked]] = [[] for _ in range(chunks)]
        self.next = 0

    def add(self, count: int) -> None:
        """Write `count` fresh chunks in the place of the oldest."""
        documents = self.makers.make(count)
        chosen = [self.random.sample(one.questions, min(self.per_chunk, len(one.questions))) for one in documents]
        asked = iter(self._asked([question for questions in chosen for question in questions]))
        for document, questions, one in zip(documents, chosen, self.writer.write(documents), strict=True):
            span = slice(self.next * self.tokens, (self.next + 1) * self.tokens)
            self.keys[:, span], self.values[:, span] = one.rows["keys"], one.rows["values"]
            self.search[span] = one.rows["search"][0]
            self.ids[self.next] = torch.tensor(document.ids)
            self.asked[self.next] = [next(asked) for _ in questions]
            self.next = (self.next + 1) % self.chunks

    def judged(self, asked: list[Asked], follows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The vote on all windows, as ``find_by_vote`` scores; prompts are padded on the left, as there.

        Args:
            follows: [m] whether the next block is the next one of the text.

        Returns:
            scores [R, m], weights of the prompts' tokens [R, t], and their mask.
        """
        length = max(one.states.shape[1] for one in asked)
        states = asked[0].states.new_zeros(asked[0].states.shape[0], len(asked), length, asked[0].states.shape[2])
        mask = torch.zeros(len(asked), length, dtype=torch.bool)
        for row, one in enumerate(asked):
            states[:, row, length - one.states.shape[1] :] = one.states
            mask[row, length - one.states.shape[1] :] = True
        with torch.no_grad():
            query, weight = self.vote.queries(list(states), mask)
            scores = self.vote.block_scores(query, weight, self.search, self.model.geometry.block_tokens, follows)
        return scores, weight, mask

    def state(self) -> dict[str, Any]:
        """Everything, as plain values and tensors."""
        return {
            "keys": self.keys,
            "values": self.values,
            "search": self.search,
            "ids": self.ids,
            "asked": [[vars(one) for one in questions] for questions in self.asked],
            "next": self.next,
            "tail": None if self.writer.previous is None else [dict(one.rows) for one in self.writer.previous],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo ``state``."""
        for name in ("keys", "values", "search", "ids"):
            getattr(self, name).copy_(state[name])
        self.asked = [[Asked(**{**one, "span": tuple(one["span"])}) for one in questions] for questions in state["asked"]]
        self.next = int(state["next"])
        self.writer.load_tail(state["tail"])

    def _asked(self, questions: list[Question]) -> list[Asked]:
        tokenizer = self.model.tokenizer
        forms = self.random.choices(list(self.forms), list(self.forms.values()), k=len(questions))
        prompts = [chat_ids(tokenizer, question.text, form=form) for question, form in zip(questions, forms, strict=True)]
        if not prompts:
            return []
        states, mask = question_states(self.model, self.vote, [last_user_turn(tokenizer, prompt) for prompt in prompts])
        out = []
        for row, (question, form, prompt) in enumerate(zip(questions, forms, prompts, strict=True)):
            text = f" {question.answer}{tokenizer.eos_token}"  # the space: the very tokens that stand in the text can be copied
            answer = tokenizer(text, add_special_tokens=False)["input_ids"][:LONGEST_ANSWER_TOKENS]
            own = states[:, row, mask[row]].contiguous()
            out.append(Asked(question.text, form, prompt, answer, own, question.span, question.kind, question.is_fact))
        return out
