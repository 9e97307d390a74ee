"""A question bank whose questions have styles, earlier turns and a teacher's answer. Knows models, no objective.

Legend: A answer tokens, k tokens kept of a teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mplus.text.chat_template import templated
from mplus.text.prompts import encode
from mplus.text.search_query import last_user_turn
from mplus.training.bank.question_bank import PreparedQuestion, QuestionBank
from mplus.training.bank.question_states import Form, chat_ids, question_states
from mplus.training.data.asking import PHRASES
from mplus.training.data.document import Question

LONGEST_TOKENS = {"value": 16, "sentence": 64}  # of an answer, by its style


@dataclass(frozen=True)
class TaughtQuestion(PreparedQuestion):
    """A question with what its teacher needs.

    Attributes:
        turns: messages before the question, as roles and texts.
        is_value: the answer is a bare value, else sentences.
        is_known, is_taught: as ``Question``.
        taught: the teacher's kept ids [A, k] and log-probabilities [A, k + 1], once it was asked; empty before.
    """

    turns: list[list[str]]
    is_value: bool
    is_known: bool
    is_taught: bool
    taught: list[Tensor] = field(default_factory=list)


class TaughtBank(QuestionBank):
    """Keys, values, search keys and taught questions of C chunks."""

    def prepare(self, questions: list[Question]) -> list[PreparedQuestion]:
        """Draw how each question is asked and take the states it searches with."""
        if not questions:
            return []
        tokenizer = self.model.tokenizer
        turns = [self._turns(question) for question in questions]
        forms = [self._form(question, before) for question, before in zip(questions, turns, strict=True)]
        prompts = [
            chat_ids(tokenizer, question.text, form="plain") if form == "plain" else self.chat(tokenizer, before, question.text)
            for question, form, before in zip(questions, forms, turns, strict=True)
        ]
        queries = [last_user_turn(tokenizer, prompt) for prompt in prompts]
        states, mask = question_states(self.model, self.retriever.layers, queries)
        out: list[PreparedQuestion] = []
        for row, (question, before, prompt) in enumerate(zip(questions, turns, prompts, strict=True)):
            is_value = question.style == "value"
            # a value begins with the space that it has in the text, so that its very tokens can be copied
            text = f" {question.answer}" if is_value else question.answer
            answer = tokenizer(text + (tokenizer.eos_token or ""), add_special_tokens=False)["input_ids"]
            out.append(
                TaughtQuestion(
                    question.text,
                    forms[row],
                    prompt,
                    answer[: LONGEST_TOKENS[question.style]],
                    states[:, row, mask[row]].contiguous(),
                    question.span,
                    question.kind,
                    question.is_fact,
                    before,
                    is_value,
                    question.is_known,
                    question.is_taught,
                )
            )
        return out

    @staticmethod
    def restored(fields: dict[str, Any]) -> PreparedQuestion:
        """A question of a checkpoint."""
        return TaughtQuestion(**{**fields, "span": tuple(fields["span"])})

    def _turns(self, question: Question) -> list[list[str]]:
        """Messages before the question: a system's, its own earlier turns."""
        said = [[role, text] for pair in question.turns for role, text in zip(("user", "assistant"), pair, strict=True)]
        if self.random.random() < self.forms.get("system", 0.0) / sum(self.forms.values()):
            return [["system", self.random.choice(PHRASES["systems"])], *said]
        return said

    def _form(self, question: Question, turns: list[list[str]]) -> Form:
        plain = self.forms.get("plain", 0.0) / sum(self.forms.values())
        return "plain" if not turns and question.style == "value" and self.random.random() < plain else "chat"

    @staticmethod
    def chat(tokenizer: Any, turns: list[list[str]], text: str) -> list[int]:
        """Token ids of a message behind earlier ones, as ``model.chat`` asks it."""
        messages = [{"role": role, "content": content} for role, content in [*turns, ["user", text]]]
        return encode(tokenizer, templated(tokenizer, messages))
