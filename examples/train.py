"""Train memory parts for a model, from a recipe: ``python examples/train.py``. The real thing differs in names and hours only:
``mplus train adapt/memory --set model.base=DIR --set task.data=FILE.jsonl``.

The model is a random Llama of two layers, the language a toy: every document is random draws from an alphabet of its own, four letters of 24.
A reader of a document's second part can only know the alphabet from memory. Prints the loss as it falls, then the loss on new
documents with the right memory, with that of another document, and with none.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mplus import MPlusModel
from mplus.training.run.recipe import make_recipe
from mplus.training.run.session import run

LETTERS = "abcdefghijklmnopqrstuvwx"
CHUNK, READ, STEPS = 16, 6, 120


def document(randomness: random.Random, length: int = CHUNK + READ) -> str:
    return "".join(randomness.choices(randomness.sample(LETTERS, 4), k=length))


def save_base(directory: Path) -> None:
    """A random decoder and a tokenizer with one token a letter."""
    words = Tokenizer(
        models.WordLevel({"<s>": 0, "<unk>": 1, **{letter: 2 + i for i, letter in enumerate(LETTERS)}}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="<unk>").save_pretrained(directory)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=26, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, initializer_range=0.25, tie_word_embeddings=True, bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)


def recipe(base: Path, data: Path, out: Path) -> dict[str, object]:
    """What a YAML recipe says; see recipes/adapt for those of real models."""
    return {
        "name": "toy",
        "model": {
            "base": str(base),
            "geometry": {"new_tokens": CHUNK, "chunk_tokens": CHUNK, "stm_tokens": 48, "ltm": False, "min_write_tokens": 4, "block_tokens": 4},
            "read_adapter": {"rank": 16, "alpha": 32},
            "write_adapter": {"rank": 16, "alpha": 32},
        },
        "task": {
            "kind": "language", "data": str(data), "subtasks": {"two_chunk": 0.8, "full_context": 0.2}, "batch": 16, "read_tokens": READ,
            "pool_share": 0.0, "bank_chunks": 0, "train": ["write", "read", "bos"],
        },
        "steps": STEPS, "optimiser": {"lr": 1e-2}, "schedule": {"kind": "linear", "warmup": 10}, "log_every": 20, "save_every": STEPS,
        "out": str(out),
    }  # fmt: skip


def main() -> None:
    randomness = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        base, data, out = (Path(directory) / name for name in ("base", "data.jsonl", "run"))
        save_base(base)
        data.write_text("\n".join(json.dumps({"text": document(randomness)}) for _ in range(3000)), encoding="utf-8")
        run(make_recipe(recipe(base, data, out)))
        for line in map(json.loads, (out / "log.jsonl").read_text(encoding="utf-8").splitlines()):
            print(
                f"step {line['step']:>3}: {line['metrics']['loss two_chunk']:.2f} nats a letter behind the memory of its document"
            )

        model = MPlusModel.from_pretrained(out / "delta")
        documents = [document(randomness) for _ in range(64)]
        memories = [model.new_memory() for _ in documents]
        model.write_many(memories, [text[:CHUNK] for text in documents])
        text = torch.tensor([model.tokenizer(text[CHUNK:], add_special_tokens=False)["input_ids"] for text in documents])
        ways = {"right": memories, "another's": memories[1:] + memories[:1], "no": [model.new_memory() for _ in documents]}
        for name, chosen in ways.items():
            logits = model(text, memory=chosen).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
            print(
                f"new documents, {name} memory: {loss:.2f} nats a letter (by chance {torch.log(torch.tensor(24.0)):.2f}, alphabet known 1.39)"
            )


if __name__ == "__main__":
    main()
