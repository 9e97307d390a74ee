"""The teacher of distillation: a stock decoder that sees the text in its prompt. Knows prompts and logits, nothing of memory.

A bare value is asked for as a text to be continued (``Question: ... Answer:``), where an untouched base gives values; all else is asked
as a conversation, where it gives sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mplus.errors import InputError
from mplus.model import MPlusModel
from mplus.text.prompts import encode
from mplus.training.bank.taught_bank import TaughtBank, TaughtQuestion
from mplus.training.objectives.answer_loss import answer_logits, by_length
from mplus.training.objectives.distillation import likeliest

GROUP_ROWS = 16


class Teacher:
    """Asks a stock decoder once per question and keeps its likeliest tokens with the question.

    Args:
        model: whose base teaches; student: whose tokenizer and template ask.
        top: tokens kept.
        passage_tokens: text around the right place that stands in the prompt.

    Raises:
        InputError: the two have different tokenizers, or no more tokens than are kept.
    """

    def __init__(self, model: MPlusModel, student: MPlusModel, top: int, passage_tokens: int) -> None:
        self.model, self.tokenizer, self.top, self.passage_tokens = model, student.tokenizer, top, passage_tokens
        if top >= student.vocabulary:
            raise InputError(
                f"task.top is {top}, but the tokenizer has {student.vocabulary} tokens; keep from 1 to {student.vocabulary - 1}"
            )

    @staticmethod
    def opened(name: str, student: MPlusModel) -> MPlusModel:
        """A teacher by name, directory or hub id.

        Raises:
            InputError: its tokenizer is not the student's.
            MPlusError: it cannot be opened.
        """
        model = MPlusModel.from_base(name, dtype=student.dtype, device=student.device)
        theirs, ours = model.tokenizer.get_vocab(), student.tokenizer.get_vocab()
        if theirs != ours:
            apart = len(set(theirs.items()) ^ set(ours.items()))
            raise InputError(
                f"task.teacher {name} has another tokenizer than {student.name!r} ({len(theirs)} tokens against {len(ours)}, {apart} "
                "differ), so its likeliest tokens mean something else; name a teacher of the same family, or leave out task.teacher"
            )
        return model

    def teach(self, asked: Sequence[TaughtQuestion], chunks: Sequence[list[int]]) -> None:
        """Ask about every question that has not been asked and that a teacher can answer.

        Args:
            chunks: token ids of the chunk of each.
        """
        fresh = [(one, ids) for one, ids in zip(asked, chunks, strict=True) if one.is_taught and not one.taught]
        prompts, answers = [self.prompt(one, ids) for one, ids in fresh], [one.answer for one, _ in fresh]
        for rows in by_length(prompts, answers, GROUP_ROWS):
            some = [prompts[row] for row in rows], [answers[row] for row in rows]
            own = answer_logits(self.model, *some, untouched=True)
            for place, row in enumerate(rows):
                kept = likeliest(own.logits[own.row_of == place], self.top)
                fresh[row][0].taught[:] = [kept.ids.cpu(), kept.logs.cpu()]

    def prompt(self, one: TaughtQuestion, chunk: list[int]) -> list[int]:
        """Token ids of what the teacher is asked."""
        passage, question = self.passage(one, chunk), one.text
        if one.kind == "prompt":
            passage, question = question.rsplit("\n\n", 1)
        if one.is_value:
            said = [text for role, text in one.turns if role != "system"]
            before = [f"Question: {q}\nAnswer: {a}" for q, a in zip(said[::2], said[1::2], strict=True)]
            return encode(
                self.tokenizer, "\n\n".join([*([passage] if passage else []), *before, f"Question: {question}\nAnswer:"])
            )
        return TaughtBank.chat(self.tokenizer, one.turns, f"{passage}\n\n{question}" if passage else question)

    def passage(self, one: TaughtQuestion, chunk: list[int]) -> str:
        """The text around the right place; empty where no place is right."""
        first, last = one.span
        if not last:
            return ""
        around = max(0, self.passage_tokens - (last - first))
        begin = max(0, min(first - around // 2, len(chunk) - self.passage_tokens))
        return str(self.tokenizer.decode(torch.tensor(chunk[begin : max(last, begin + self.passage_tokens)]))).strip()
