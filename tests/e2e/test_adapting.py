"""Adapting a base model: after a few hundred steps of task ``language`` the right memory helps, an empty or foreign one does not.

The toy language: every document has an alphabet of its own, four of 24 tokens drawn afresh, and is nothing but draws from it. What a
reader of the continuation does not know is the alphabet, and only the memory of the beginning tells it.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tests import tiny

from mplus import MPlusModel
from mplus.training.data.text_sources import Corpus
from mplus.training.objectives.language import LanguageTask, Settings

ALPHABET, LETTERS, CHUNK, READ, STEPS, HELD_OUT = 4, 24, 16, 6, 160, 48


class Dialects(Corpus):
    """Documents of the toy language, made as they are asked for."""

    def __init__(self) -> None:
        super().__init__([], None, 0, tiny.VOCABULARY)

    def document(self, randomness: random.Random, least: int) -> list[int]:
        alphabet = randomness.sample(range(3, 3 + LETTERS), ALPHABET)
        return [randomness.choice(alphabet) for _ in range(max(least, CHUNK + READ))]


def adapted(family: str) -> tuple[MPlusModel, list[float]]:
    """A random frozen decoder whose memory parts were trained, and the loss of every step."""
    geometry = tiny.tiny_geometry(new_tokens=CHUNK, chunk_tokens=CHUNK, stm_tokens=48, ltm=False, drop_tokens=4)
    base = tiny.tiny_decoder(family, tie_word_embeddings=True, positions=128)
    lora: dict[str, Any] = {"r": 16, "lora_alpha": 32}
    torch.manual_seed(0)
    model = MPlusModel.from_base(base, geometry=geometry, read_lora=lora, write_lora=lora, memory_format="kv")
    settings = Settings(
        subtasks={"two_chunk": 0.8, "full_context": 0.2}, batch=16, read_tokens=READ, pool_share=0.0, bank_chunks=0, train=("write", "read", "bos")
    )  # fmt: skip
    task = LanguageTask(model, settings, 0, corpus=Dialects()).train()
    optimiser = torch.optim.AdamW([value for group in task.groups() for _, value in group.parameters], lr=1e-2, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 20) * (1 - step / STEPS)
        loss = task(task.draw()).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([value for value in task.parameters() if value.grad is not None], 1.0)
        optimiser.step()
        losses.append(loss.item())
    task.eval()
    return model, losses


def losses_with(model: MPlusModel) -> dict[str, float]:
    """Held-out loss in nats of a continuation's tokens, read through the public interface with three memories."""
    corpus, randomness = Dialects(), random.Random(99)
    documents = [corpus.document(randomness, CHUNK + READ) for _ in range(HELD_OUT)]
    memories = []
    for document in documents:
        memory = model.new_memory()
        memory.write(document[:CHUNK])
        memories.append(memory)
    text = torch.tensor([document[CHUNK:] for document in documents])
    ways = {"right": memories, "foreign": memories[1:] + memories[:1], "empty": [model.new_memory() for _ in documents]}
    out = {}
    for name, chosen in ways.items():
        logits = model(text, memory=chosen).logits[:, :-1].float()
        out[name] = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()).item()
    return out


@pytest.mark.parametrize("family", ["llama", *(pytest.param(name, marks=pytest.mark.long) for name in ("mistral", "qwen3"))])
def test_the_right_memory_beats_an_empty_and_a_foreign_one(family: str) -> None:
    model, losses = adapted(family)
    after = losses_with(model)
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    assert after["right"] < after["empty"] - 0.2, after
    assert after["right"] < after["foreign"] - 0.2, after
