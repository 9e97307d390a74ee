"""Training of the read adapter on what the vote finds. RECIPE section 4, last part.

Legend: C chunks, T tokens of a chunk, R questions of a step, P prefix slots, L layers, H kv heads, E head width.

Each question sees what it will see at inference: ``[BOS | short-term memory | spans the vote found, best last | prompt]``.
The right block is put in if the vote missed it; short-term memory is random whole spans of other chunks.
"""

from __future__ import annotations

import collections
import logging
import random
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mplus.attach.adapters import inject
from mplus.attach.cache import PrefixCache
from mplus.attach.families import rotate
from mplus.attach.hooks import Hooks
from mplus.model import MPlusModel
from mplus.retriever import VoteRetriever, best_span_last, choose_blocks
from mplus.training.bank import Asked, Writer, chat_ids, question_states
from mplus.training.documents import Document, DocumentMaker

log = logging.getLogger(__name__)

LORA = {"r": 16, "lora_alpha": 32}
LONGEST_ANSWER_TOKENS = 16


class Bank:
    """Keys, values and search keys of C chunks; the oldest are replaced by fresh ones."""

    def __init__(self, model: MPlusModel, makers: DocumentMaker, chunks: int) -> None:
        retriever = model.attached.retriever
        assert isinstance(retriever, VoteRetriever)
        self.model, self.makers, self.vote = model, makers, retriever
        self.writer = Writer(model, retriever)
        self.chunks, self.tokens = chunks, makers.tokens
        self.keys: Tensor = torch.empty(0)
        self.values: Tensor = torch.empty(0)
        self.search: Tensor = torch.empty(0)
        self.documents: list[Document] = []
        self._next = 0
        self.add(chunks)

    def add(self, count: int) -> None:
        """Write `count` fresh chunks over the oldest ones."""
        documents = self.makers.make(count)
        written = self.writer.write(documents)
        if not self.documents:
            rows = written[0].rows
            depth, tokens = rows["keys"].shape[:2]
            shape = (depth, self.chunks * tokens, *rows["keys"].shape[2:])
            self.keys, self.values = rows["keys"].new_empty(shape), rows["keys"].new_empty(shape)
            self.search = rows["search"].new_empty(self.chunks * tokens, rows["search"].shape[-1])
            self.documents = list(documents)
        for document, one in zip(documents, written, strict=True):
            span = slice(self._next * self.tokens, (self._next + 1) * self.tokens)
            self.keys[:, span], self.values[:, span] = one.rows["keys"], one.rows["values"]
            self.search[span] = one.rows["search"][0]
            self.documents[self._next] = document
            self._next = (self._next + 1) % self.chunks


class Step:
    """One batch of questions with the memory each one sees.

    Args:
        ltm_tokens: what is read of the vote's finds; with 0 the right place is still in short-term memory.
        stm_tokens: short-term tokens.
    """

    def __init__(self, bank: Bank, questions: int, ltm_tokens: int, stm_tokens: int, randomness: random.Random) -> None:
        self.bank, self.model = bank, bank.model
        self.block = self.model.geometry.block_tokens
        self.budget = ltm_tokens // self.block
        chosen = randomness.sample(range(bank.chunks), questions)
        self.asked = [Asked(chunk, randomness.choice(bank.documents[chunk].questions)) for chunk in chosen]
        self.facts = torch.tensor([one.question.is_fact for one in self.asked])
        self.prompts = [chat_ids(self.model.tokenizer, one.question.text) for one in self.asked]
        end = self.model.tokenizer.eos_token
        answers = [self.model.tokenizer(one.question.answer + end, add_special_tokens=False)["input_ids"] for one in self.asked]
        self.answers = [answer[:LONGEST_ANSWER_TOKENS] for answer in answers]
        self.found = torch.zeros(questions)
        self.index = self._memory(stm_tokens, randomness)

    def _memory(self, stm_tokens: int, randomness: random.Random) -> Tensor:
        """[R, k + n] places in the bank, in reading order."""
        states, mask = question_states(self.model, self.bank.vote, self.prompts)
        with torch.no_grad():
            query, weight = self.bank.vote.queries(list(states), mask)
            scores = self.bank.vote.block_scores(query, weight, self.bank.search, self.block)
        total = scores.shape[1]
        ids = torch.arange(total)
        per_chunk = self.bank.tokens // self.block
        reach = self.model.geometry.neighbour_blocks
        rows = []
        for row, one in enumerate(self.asked):
            first = one.chunk * per_chunk + one.question.span[0] // self.block
            last = one.chunk * per_chunk + (one.question.span[1] - 1) // self.block
            right = list(range(first, min(last, first + 7) + 1))
            short = self._spans(total, stm_tokens, randomness)
            if short and (randomness.random() < 0.15 or not self.budget):  # it may still be in short-term memory
                kept = randomness.sample(short, len(short) - min(len(right), len(short)))
                short = sorted(set(kept) | set(right[: len(short)]))
            table = scores[row].clone()
            table[torch.tensor(short, dtype=torch.int64)] = float("-inf")
            hit = choose_blocks(table, ids, self.budget, reach)
            missing = not set(right) <= set(hit.tolist()) | set(short)
            self.found[row] = float(not missing)
            if missing:  # put in, at the rank of a random find
                table[torch.tensor(right)] = float(table[hit].amax()) + 1e-3 if len(hit) else 0.0
                hit = choose_blocks(table, ids, self.budget, reach)
                table[torch.tensor(right)] = float(table[hit[int(randomness.random() * len(hit))]]) if len(hit) else 0.0
            blocks = short + best_span_last(hit, table, ids).tolist()
            wanted = self.budget + stm_tokens // self.block
            blocks = (blocks[: wanted - len(blocks)] + blocks if len(blocks) < wanted else blocks)[-wanted:]
            rows.append((torch.tensor(blocks)[:, None] * self.block + torch.arange(self.block)).flatten())
        return torch.stack(rows)

    def _spans(self, total: int, tokens: int, randomness: random.Random) -> list[int]:
        """Blocks of short-term memory: whole random spans, as shared drops leave them."""
        per_span = self.model.geometry.drop_span // self.block
        chosen = randomness.sample(range(total // per_span), tokens // self.block // per_span)
        return sorted(block for span in chosen for block in range(span * per_span, (span + 1) * per_span))

    def loss(self) -> tuple[Tensor, Tensor]:
        """Mean loss over answer tokens, and whether each whole answer is right by the largest logits [R]."""
        attached = self.model.attached
        decoder, bank = attached.decoder, self.bank
        rows = [prompt + answer for prompt, answer in zip(self.prompts, self.answers, strict=True)]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), 2)
        target = torch.full((len(rows), width), -100)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for row, (both, answer) in enumerate(zip(rows, self.answers, strict=True)):
            ids[row, : len(both)] = torch.tensor(both)
            mask[row, : len(both)] = 1
            target[row, len(both) - len(answer) : len(both)] = torch.tensor(answer)
        prefix = 1 + self.index.shape[1]
        rotation = decoder.rotation(torch.arange(prefix)[None], attached.bos)

        def attend(layer: int, cache: PrefixCache, normed: Tensor) -> None:
            with torch.no_grad():
                bos_keys, bos_values = bos_kv[layer]
                shape = (len(rows), -1, -1, -1)
                keys = torch.cat([bos_keys[None].expand(shape), bank.keys[layer][self.index]], 1)
                values = torch.cat([bos_values[None].expand(shape), bank.values[layer][self.index]], 1)
                cache.at(layer).fill(rotate(keys, *rotation).transpose(1, 2), values.transpose(1, 2))

        with torch.no_grad(), attached.adapters.on(None):
            bos_kv = [decoder.project(layer, attached.bos[layer][None]) for layer in range(decoder.depth)]
        with attached.adapters.on(attached.adapters.read), Hooks() as hooks, torch.autocast("cpu", torch.bfloat16):
            for layer in range(decoder.depth):
                hooks.before_attention(decoder, layer, partial(attend, layer))
            full = torch.cat([mask.new_ones(len(rows), prefix), mask], 1)
            positions = torch.arange(prefix, prefix + width)[None].expand(len(rows), -1)
            states = decoder.body(
                input_ids=ids,
                attention_mask=full,
                position_ids=positions,
                past_key_values=PrefixCache(decoder.depth, prefix, storing=False),
                use_cache=True,
            ).last_hidden_state
            kept = torch.zeros_like(target, dtype=torch.bool)
            kept[:, :-1] = target[:, 1:] != -100
            logits = decoder.model.lm_head(states[kept]).float()
        wanted = target[:, 1:][kept[:, :-1]]
        row_of = torch.arange(len(rows))[:, None].expand_as(kept)[kept]
        wrong = torch.zeros(len(rows)).index_add_(0, row_of, (logits.argmax(-1) != wanted).float())
        return functional.cross_entropy(logits, wanted), wrong == 0


def train_reading(
    model: MPlusModel,
    makers: DocumentMaker,
    *,
    seconds: float,
    out: Path,
    chunks: int = 224,
    questions: int = 32,
    learning_rate: float = 5e-4,
    refresh_every: int = 4,
    seed: int = 0,
) -> None:
    """Train the read adapter for a given time; the delta is stored in `out` every 40 steps and at the end."""
    adapters = model.attached.adapters
    if adapters.read is None:
        inject(model.attached.decoder.model, "read", LORA)
        model.attached.adapters.read = "read"
        model._loaded.adapter_configs["read"] = dict(LORA)
        adapters.refresh()
    trained = []
    for name, value in model.attached.decoder.model.named_parameters():
        value.requires_grad_(".lora_" in name and ".read." in name)
        if value.requires_grad:
            value.data = value.data.float()
            trained.append(value)
    optimiser = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    randomness = random.Random(seed)
    start = time.time()
    bank = Bank(model, makers, chunks)
    log.info("bank: %d chunks, %.0f s", chunks, time.time() - start)
    recent: dict[str, collections.deque[float]] = collections.defaultdict(lambda: collections.deque(maxlen=20))
    begun, step = time.time(), 0
    while time.time() - begun < seconds:
        share = (time.time() - begun) / seconds
        factor = min(1.0, (step + 1) / 15) * (1.0 if share < 0.4 else max(0.03, (1 - share) / 0.6))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * factor
        if step % refresh_every == refresh_every - 1:
            bank.add(16)
        long, short = model.geometry.ltm_read_tokens, model.geometry.stm_tokens
        ltm, stm = randomness.choice(
            [(long, short), (long, short), (long, short), (2 * long, short), (long // 2, short // 4), (0, short // 4)]
        )
        batch = Step(bank, questions, ltm, stm, randomness)
        loss, exact = batch.loss()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        recent["loss"].append(loss.item())
        for name, hits in (("exact", exact.float()), ("found", batch.found)):
            for kind, rows in (("facts", batch.facts), ("passages", ~batch.facts)):
                if bool(rows.any()):
                    recent[f"{name} {kind}"].append(hits[rows].mean().item())
        if step % 10 == 0:
            shown = " ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in recent.items())
            log.info("step %d %.0f s: %s", step, time.time() - begun, shown)
        if step % 40 == 0:
            model.save_pretrained(out)
    model.save_pretrained(out)
    log.info("reading: %d steps, %.0f s", step, time.time() - begun)
