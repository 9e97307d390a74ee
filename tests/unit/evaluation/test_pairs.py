"""Task `pairs`: facts at their distances from the end, held-out names, one sentence for a model that does not know the words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mplus import MPlusModel
from mplus.cli import main
from mplus.corpus import pair_facts
from mplus.errors import InputError
from mplus.evaluation.evaluate import Options, plan
from mplus.evaluation.tasks.task_file import open_task
from mplus.settings import Geometry
from mplus.training.run.recipe import Scratch
from mplus.training.run.scratch import scratch_decoder, word_tokenizer
from tests import tiny

pytestmark = pytest.mark.slow

TOKENS = 700
DISTANCES = (100, 500)


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    torch.manual_seed(0)
    decoder, tokenizer = scratch_decoder(Scratch(layers=2, width=32, heads=2, kv_heads=1, mlp=32, positions=256))
    sizes = {"new_tokens": 8, "chunk_tokens": 16, "stm_tokens": 24, "ltm_read_tokens": 8, "min_write_tokens": 8}
    rules = {"write_tap": "output", "memory_projection": "read", "drop": "per_layer", "retrieval": "per_layer", "block_tokens": 1}
    return MPlusModel.from_base(decoder, geometry=Geometry().changed(**sizes, **rules), tokenizer=tokenizer, key_width=8)


def options(out: Path, **settings: object) -> Options:
    return Options(out=out, limit=2, settings={"tokens": TOKENS, "distances": DISTANCES, **settings})


def test_facts_stand_at_their_distance_and_are_held_out(model: MPlusModel, tmp_path: Path) -> None:
    planned = plan(open_task("pairs"), model, options(tmp_path))
    stream = planned.streams[0].opened()
    words = model.tokenizer.decode([token for chunk in stream.chunks for token in chunk]).split()
    ((end, due),) = stream.due.items()
    assert (
        end == len(words) >= TOKENS
        and [one.distance for one in due][-2:] == [500, 500]
        and {one.distance for one in due} == {100, 500}
    )
    for one in due:
        first, last = one.question.span
        fact = words[first:last]
        assert " ".join(fact) == one.question.passage and abs(end - last - one.distance) <= one.distance / 4
        assert pair_facts.is_held_out(pair_facts.FIRST.index(fact[1]), pair_facts.LAST.index(fact[2]))
        assert one.question.answers == (fact[pair_facts.VALUE_AT],) and one.question.text == " ".join(fact[: pair_facts.VALUE_AT])


def test_pairs_of_names_are_asked_once(model: MPlusModel, tmp_path: Path) -> None:
    stream = plan(open_task("pairs"), model, options(tmp_path, tokens=6000)).streams[0].opened()
    words = model.tokenizer.decode([token for chunk in stream.chunks for token in chunk]).split()
    pairs = [tuple(words[at : at + 2]) for at, word in enumerate(words) if word in pair_facts.FIRST]
    assert len(pairs) == len(set(pairs)) > 200


def test_a_model_that_does_not_know_the_words_is_told_so(tmp_path: Path) -> None:
    other = tiny.tiny_model("llama", "output")
    other.parts.decoder.model.eval()
    tokenizer = word_tokenizer()
    assert len(tokenizer) == len(pair_facts.VOCABULARY)
    with pytest.raises(InputError, match="paper-tiny|chat template"):
        plan(open_task("pairs"), other, options(tmp_path))


def test_a_distance_without_a_fact_is_one_sentence(model: MPlusModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fact stands about 2 tokens back"):
        plan(open_task("pairs"), model, options(tmp_path, distances=(2,))).streams[0].opened()


def test_the_demo_takes_a_model_of_these_words(model: MPlusModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save_pretrained(tmp_path / "model", include_base=True)
    asked = ["demo", "--model", str(tmp_path / "model"), "--tokens", "1400", "--questions", "1", "--out", str(tmp_path / "out")]
    assert main(asked) == 0, capsys.readouterr().err
    stored = json.loads((tmp_path / "out" / "retention.json").read_text(encoding="utf-8"))
    assert stored["distances"] == [250, 500, 1000] and stored["read_budget_tokens"] == 32 and "window_long" not in stored
    assert set(stored["systems"]) == {"mplus", "memoryllm", "window"}
    assert (tmp_path / "out" / "retention.png").read_bytes().startswith(b"\x89PNG")
    book = tmp_path / "book.txt"
    book.write_text("A text. " * 100, encoding="utf-8")
    assert main([*asked, "--haystack", str(book)]) == 2
    assert "made-up language" in capsys.readouterr().err
