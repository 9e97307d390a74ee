"""Training of the shared retriever on cached states: no language model in the loop. RECIPE section 4.

Legend: C chunks, T tokens of a chunk, R questions of a step, m blocks, V voting layers, D width.

Loss per question: half ``logsumexp(all) - logsumexp(right blocks)`` (one right block suffices, its neighbours are read along),
half the mean over the right blocks of each against all wrong ones. Blocks beside a right one are neither.
"""

from __future__ import annotations

import collections
import logging
import math
import random
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from mplus.model import MPlusModel
from mplus.retriever import VoteRetriever
from mplus.training.bank import Asked, RawStates, Writer, chat_ids, pick, question_states
from mplus.training.documents import Document, DocumentMaker

log = logging.getLogger(__name__)


def train_vote(
    model: MPlusModel,
    makers: DocumentMaker,
    *,
    seconds: float,
    out: Path,
    chunks: int = 192,
    step_chunks: int = 96,
    questions: int = 32,
    bank_seconds: float = 75.0,
    learning_rate: float = 1.5e-3,
    seed: int = 0,
) -> None:
    """Train `model`'s vote for a given time and store the delta in `out` after every bank of fresh chunks."""
    retriever = model.attached.retriever
    assert isinstance(retriever, VoteRetriever)
    trained = retriever.float().requires_grad_(True).train()
    raw = RawStates(trained.voting, trained.width)
    randomness, torch_random = random.Random(seed), torch.Generator().manual_seed(seed)
    groups = [
        {"params": [value for name, value in trained.named_parameters() if name != "scale"], "base": learning_rate},
        {"params": [trained.scale], "base": 2e-2},
    ]
    optimiser = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    start, step, bank = time.time(), 0, 0
    recent: dict[str, collections.deque[float]] = collections.defaultdict(lambda: collections.deque(maxlen=20))
    while time.time() - start < seconds:
        states = Bank(model, raw, makers.make(chunks), randomness)
        bank += 1
        log.info("bank %d: %d chunks, %d questions, %.0f s", bank, chunks, len(states.asked), time.time() - start)
        begun, first = time.time(), step
        while time.time() - begun < bank_seconds and time.time() - start < seconds:
            share = (time.time() - start) / seconds
            factor = min(1.0, (step + 1) / 20) * (0.5 * (1 + math.cos(math.pi * share)) * 0.97 + 0.03)
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * factor
            loss, hits, facts = states.step(
                trained, step_chunks, questions, model.geometry.block_tokens, torch_random, randomness
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimiser.step()
            step += 1
            recent["loss"].append(loss.item())
            recent["facts"].append(float(hits[facts].float().mean()) if bool(facts.any()) else math.nan)
            recent["passages"].append(float(hits[~facts].float().mean()) if bool((~facts).any()) else math.nan)
            if step - first in (8, 20) or step % 40 == 0:
                shown = " ".join(f"{name} {_mean(values):.3f}" for name, values in recent.items())
                log.info("step %d (%d on this bank) %.0f s: first block right: %s; scale %s", step, step - first, time.time() - start, shown,
                         [round(float(value), 2) for value in trained.scale.exp()])  # fmt: skip
        model.save_pretrained(out)
    retriever.requires_grad_(False).eval()
    log.info("vote: %d steps, %d banks, %.0f s", step, bank, time.time() - start)


class Bank:
    """States of fresh chunks and of questions about them."""

    def __init__(self, model: MPlusModel, raw: RawStates, documents: list[Document], randomness: random.Random) -> None:
        written = Writer(model, raw).write(documents)
        width, votes = raw.width, len(raw.voting)
        search = torch.stack([one.rows["search"][0] for one in written])  # [C, T, V * D]
        self.states = search.unflatten(-1, (votes, width)).permute(2, 0, 1, 3).contiguous()  # [V, C, T, D]
        self.asked: list[Asked] = pick(documents, randomness, 3)
        rows = [chat_ids(model.tokenizer, one.question.text, plain=randomness.random() < 0.1) for one in self.asked]
        self.prompts, self.mask = question_states(model, raw, rows)
        self.by_chunk: dict[int, list[int]] = collections.defaultdict(list)
        for number, one in enumerate(self.asked):
            self.by_chunk[one.chunk].append(number)

    def step(
        self, vote: VoteRetriever, chunks: int, questions: int, block: int, generator: torch.Generator, randomness: random.Random
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, whether the best block is a right one [R], whether it asks for a fact [R]."""
        asked_about = sorted(self.by_chunk)
        total = self.states.shape[1]
        chosen = torch.randperm(total, generator=generator)[: min(chunks, total)]
        place = {int(chunk): number for number, chunk in enumerate(chosen)}
        pool = [number for chunk in asked_about if chunk in place for number in self.by_chunk[chunk]]
        picked = randomness.sample(pool, min(questions, len(pool)))
        length = int(self.mask[picked].sum(1).max())
        mask = self.mask[picked][:, -length:]
        per_chunk = self.states.shape[2] // block
        right = torch.zeros(len(picked), chosen.shape[0] * per_chunk, dtype=torch.bool)
        beside = torch.zeros_like(right)
        for row, number in enumerate(picked):
            one = self.asked[number]
            first = place[one.chunk] * per_chunk + one.question.span[0] // block
            last = place[one.chunk] * per_chunk + (one.question.span[1] - 1) // block
            right[row, first : last + 1] = True
            beside[row, max(0, first - 1) : last + 2] = True
            if not one.question.is_fact:  # the rest of its passage is neither right nor wrong
                beside[row, place[one.chunk] * per_chunk : (place[one.chunk] + 1) * per_chunk] = True
        scores = self._scores(vote, chosen, picked, length, mask, block)
        scores = scores.masked_fill(beside & ~right, -1e4)
        wrong = torch.logsumexp(scores.masked_fill(right, -1e4), 1)
        each = (torch.logaddexp(wrong[:, None], scores) - scores).masked_fill(~right, 0).sum(1) / right.sum(1)
        some = torch.logsumexp(scores, 1) - torch.logsumexp(scores.masked_fill(~right, -1e4), 1)
        hits = right.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
        facts = torch.tensor([self.asked[number].question.is_fact for number in picked])
        return (0.5 * each + 0.5 * some).mean(), hits, facts

    def _scores(self, vote: VoteRetriever, chosen: Tensor, picked: list[int], length: int, mask: Tensor, block: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            keys = vote.keys([part[chosen].flatten(0, 1) for part in self.states])
            query, weight = vote.queries([part[picked][:, -length:] for part in self.prompts], mask)
            return vote.block_scores(query, weight, keys, block).float()


def _mean(values: Iterable[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / max(1, len(kept))
