"""Laws of the demo: fair scoring, the promised JSON, a window baseline equal to its slow twin, a picture."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mplus.corpus.stream import build_stream
from mplus.errors import InputError
from mplus.evaluation.report.pictures import draw_retention
from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.report.retention import SYSTEMS, Retention
from mplus.evaluation.schedule.stream_run import Hooks
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.scoring.text_match import contains_value, wilson_interval
from mplus.evaluation.systems import shared_context
from mplus.evaluation.systems.factory import SystemFactory
from mplus.evaluation.systems.protocol import GREEDY
from mplus.evaluation.systems.text import WindowSystem
from mplus.evaluation.task_run import TaskRun
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import TaskContext
from mplus.evaluation.tasks.facts.builder import distances_within
from mplus.evaluation.tasks.task_file import open_task
from mplus.settings import Geometry
from tests.evaluating import answer_from_window

pytestmark = pytest.mark.slow

CHAT_TEMPLATE = "{% for m in messages %}<user> {{ m['content'] }} <end> {% endfor %}<assistant>"
HAYSTACK = " ".join(f"Sentence {number} goes on and on and then ends here." for number in range(700))
SEEN_WORDS = 600


def word_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["<unk>", "<eos>", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", chat_template=CHAT_TEMPLATE)


def tiny_llama(vocabulary: int = 48, positions: int = 256) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=1,
    )
    model: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    return model


class FakeMemory:
    """Remembers words; with ``ltm=False`` only the last 600."""

    def __init__(self, ltm: bool) -> None:
        self.ltm = ltm
        self.text = ""

    def update(self, written: str, *, source: str | None = None) -> None:
        self.text += " " + written
        if not self.ltm:
            self.text = " ".join(self.text.split()[-SEEN_WORDS:])

    def stats(self) -> SimpleNamespace:
        return SimpleNamespace(ltm_tokens=len(self.text.split()) - SEEN_WORDS if self.ltm else 0)


class FakeModel:
    """Answers with the sentence of its memory that shares most words with the question."""

    name = "fake"
    dtype = torch.float32
    geometry = Geometry(new_tokens=40, chunk_tokens=40, stm_tokens=400, ltm_read_tokens=200, min_write_tokens=4, block_tokens=8)

    def __init__(self) -> None:
        texts = [
            build_stream(HAYSTACK, lambda text: len(text.split()), tokens=tokens, distances=distances, questions=count, seed=seed)
            for tokens, distances, count, seed in TEXTS
        ]
        self.tokenizer = word_tokenizer([word for text in texts for piece in text.pieces for word in piece.split()])
        self.new_memory_calls: list[dict[str, Any]] = []
        self.encoded = 0

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def new_memory(self, **changes: Any) -> FakeMemory:
        self.new_memory_calls.append(changes)
        return FakeMemory(changes.get("ltm", True))

    def cut(self, text: str) -> list[list[int]]:
        ids = self.ids(text)
        return [ids[start : start + 200] for start in range(0, len(ids), 200)]

    def encode(self, ids: list[int], memory: FakeMemory, *, source: str | None = None) -> str:
        self.encoded += 1
        return str(self.tokenizer.decode(ids))

    def chat(self, messages: list[list[dict[str, str]]], *, memory: FakeMemory, **generate: Any) -> list[str]:
        assert generate == {"max_new_tokens": 10, **GREEDY} and len(messages) <= 8
        return [self._answer(chat[-1]["content"], memory.text) for chat in messages]

    def _answer(self, question: str, text: str) -> str:
        asked = set(question.rstrip("?").split())
        return max(text.split(". "), key=lambda sentence: len(asked & set(sentence.replace("'s", " 's").split())))

    @contextmanager
    def untouched(self) -> Iterator[LlamaForCausalLM]:
        yield tiny_llama(len(self.tokenizer), positions=512)


TEXTS = [(4500, [1000, 2000, 4000], 6, 3), (1500, [1000], 2, 7), (1500, [1000], 2, 0)]
"""Tokens, distances, questions and seed of the runs below."""


def run(
    model: FakeModel, out: Path, *, tokens: int, distances: Sequence[int], questions: int, seed: int, **how: Any
) -> Retention:
    """The demo of a fake model."""
    text = out.parent / "haystack.txt"
    text.write_text(HAYSTACK, encoding="utf-8")
    task = open_task("demo")
    context = TaskContext(
        task=task, encode=model.ids, cut=model.cut, chunk_tokens=40, min_tokens=4, haystack=(text,), limit=questions, seed=seed
    )
    planned = TaskRun(
        task="demo",
        factory=SystemFactory(model=model, systems=list(task.systems)),
        streams=streams_of(task, settings_of(task, {"tokens": tokens, "distances": list(distances)}), context),
        metric=METRICS["value"],
        settings={"limit": questions, "seed": seed, "tokens": tokens},
    )
    return Retention(planned.run(out, **how))


@pytest.fixture(scope="module")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def result(model: FakeModel, place: Path) -> Retention:
    return run(model, place, tokens=4500, distances=[1000, 2000, 4000], questions=6, seed=3)


@pytest.mark.parametrize(
    ("answer", "value", "right"),
    [
        ("Seville.", "Seville", True),
        ("She was born in SEVILLE, Spain", "Seville", True),
        ("Sevilles", "Seville", False),
        ("1234", "12", False),
        ("12", "1234", False),
        ("It is 1,234 people", "1234", True),
        ("12:30", "12", False),
        ("12.5", "12", False),
        ("At 12:30.", "12:30", True),
        ("112:30", "12:30", False),
        ("on 14 March, I think", "14 March", True),
        ("on 14 May", "14 March", False),
        ("the forget me not", "forget-me-not", True),
        ("**Anna Keller**", "Anna Keller", True),
        ("Anna Kellerman", "Anna Keller", False),
        ("", "red", False),
        ("A redwood", "red", False),
    ],
)
def test_answer_counts_when_it_contains_the_value_as_whole_words(answer: str, value: str, right: bool) -> None:
    assert contains_value(answer, value) is right


def test_wilson_interval_matches_published_values_and_stays_within_0_and_1() -> None:
    assert wilson_interval(15, 16) == pytest.approx((0.7167, 0.9889), abs=1e-4)
    assert wilson_interval(0, 16) == pytest.approx((0.0, 0.1936), abs=1e-4)
    assert wilson_interval(16, 16) == pytest.approx((0.8064, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_memories_are_filled_in_one_pass_and_memoryllm_gets_the_same_read_budget(model: FakeModel, tmp_path: Path) -> None:
    model.new_memory_calls.clear()
    run(model, tmp_path / "out", tokens=1500, distances=[1000], questions=2, seed=7)
    assert model.new_memory_calls == [{"seed": 7}, {"seed": 7, "stm_tokens": 600, "ltm": False}]


def test_perfect_memory_scores_high_everywhere_and_short_memory_nowhere(result: Retention) -> None:
    assert min(result.accuracy("mplus")) > 0.6
    assert result.accuracy("memoryllm") == [0.0, 0.0, 0.0]
    assert result.accuracy("window") == [0.0, 0.0, 0.0]


def test_json_follows_schema_1(result: Retention) -> None:
    data = json.loads(result.to_text())
    assert data["schema"] == 1 and data["model"] == "fake" and data["seed"] == 3
    assert data["distances"] == [1000, 2000, 4000]
    assert 4500 <= data["tokens_read"] < 4700
    assert set(data["systems"]) == {"mplus", "memoryllm", "window"}
    for system in data["systems"].values():
        assert len(system["accuracy"]) == 3 and system["asked"] == [6, 6, 6]
        assert all(0 <= share <= 1 for share in system["accuracy"])
    assert isinstance(data["ltm_tokens"], int) and data["ltm_tokens"] > 3000
    assert data["seconds"] >= 0 and {"python", "torch", "transformers"} <= set(data["versions"])
    assert data["read_budget_tokens"] == 600 and 400 < data["window_tokens"] < 512
    assert data["window_long"]["max_new_tokens"] == 40 and data["window_long"]["asked"] == [6, 6, 6]
    assert len(data["examples"]) == 18
    for example in data["examples"]:
        assert set(example["answers"]) == {*SYSTEMS, "window_long"}
        assert example["answers"]["window_long"].startswith(example["answers"]["window"])
        assert example["right"]["mplus"] == contains_value(example["answers"]["mplus"], example["value"])


def test_every_system_is_told_as_soon_as_it_has_answered_mplus_first(model: FakeModel, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, int]] = []
    read: list[tuple[str, int, int]] = []

    def answered(system: str, done: int, total: int, samples: list[Sample]) -> None:
        assert 0 < done <= total and len(samples) == done
        assert len((tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()) >= done  # stored by then
        seen.append((system, done, total, len(samples)))

    hooks = Hooks(progress=lambda *state: read.append(state), answered=answered)
    run(model, tmp_path / "out", tokens=1500, distances=[1000], questions=2, seed=0, hooks=hooks)
    assert [name for name, *_ in seen] == ["mplus", "memoryllm", "window", "window_long"]
    assert all(done == total == 2 for _, done, total, _ in seen)
    assert read[0][1] == 0 and read[-1][1] == read[-1][2]


def test_a_stopped_demo_goes_on_and_reads_only_for_those_who_lack_answers(
    model: FakeModel, result: Retention, place: Path, tmp_path: Path
) -> None:
    whole = (place / "samples.jsonl").read_bytes().splitlines(keepends=True)
    for kept, reads in ((5, True), (2 * 18, False), (3 * 18 + 1, False)):
        out = tmp_path / str(kept) / "out"
        out.mkdir(parents=True)
        (out / "run.json").write_bytes((place / "run.json").read_bytes().replace(str(place.parent).encode(), b""))
        (out / "samples.jsonl").write_bytes(b"".join(whole[:kept]) + whole[kept][:30])
        before = model.encoded
        again = run(model, out, tokens=4500, distances=[1000, 2000, 4000], questions=6, seed=3, resume=True)
        assert (out / "samples.jsonl").read_bytes() == b"".join(whole)
        assert (model.encoded > before) is reads
        assert {**again.to_json(), "seconds": 0, "seconds_of": 0} == {**result.to_json(), "seconds": 0, "seconds_of": 0}


def test_the_window_is_computed_once_for_all_questions_and_both_lengths_of_answers(
    model: FakeModel, result: Retention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefilled: list[int] = []

    def counted(hf_model: Any, ids: list[int]) -> Any:
        prefilled.append(len(ids))
        return plain(hf_model, ids)

    plain = shared_context._prefilled
    monkeypatch.setattr(shared_context, "_prefilled", counted)
    monkeypatch.setattr("mplus.evaluation.systems.factory.WindowSystem", partial(WindowSystem, batch_in_order=5))
    run(model, tmp_path / "out", tokens=4500, distances=[1000, 2000, 4000], questions=6, seed=3)
    assert len(prefilled) == 1 and prefilled[0] > 400
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    whole = {(one["system"], one["id"]): one["given"] for one in map(vars, result.summary.samples)}
    assert {(one["system"], one["id"]): one["given"] for one in samples} == whole


def test_distances_within_leaves_out_what_does_not_fit() -> None:
    assert distances_within(164_000)[-1] == 160_000
    assert distances_within(20_000) == [1000, 2000, 4000, 8000, 16_000]
    with pytest.raises(InputError, match="expected at least"):
        distances_within(900)


def test_packed_window_answers_equal_one_by_one_generation() -> None:
    words = [f"w{number}" for number in range(44)]
    tokenizer: Any = word_tokenizer(["<user>", "<end>", *words])
    model: Any = tiny_llama()
    text = " ".join(words[(7 * number) % 44] for number in range(900))
    questions = [" ".join(words[number : number + 2 + number % 5]) for number in range(11)]
    ids, seen = answer_from_window(model, tokenizer, text, questions, max_new_tokens=10, group_questions=4)
    fast = [tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in ids]
    assert seen == 256 - 1 - (6 + 2) - 10  # positions, head, longest tail, answer
    slow = []
    for question in questions:
        content = " ".join(text.split()[-seen:]) + "\n\n" + question
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, pad_token_id=0)
        slow.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert fast == slow
    assert len(set(fast)) > 3


def test_question_longer_than_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit the model's 256 positions"):
        answer_from_window(tiny_llama(), word_tokenizer(), "some text", ["why " * 300])


def test_picture_is_a_png_of_readable_size(result: Retention, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        draw_retention(result, tmp_path / "retention.png")
    with Image.open(tmp_path / "retention.png") as image:
        assert image.format == "PNG" and image.width >= 1000 and image.height >= 500
    assert not caplog.records
