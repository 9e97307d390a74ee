"""Laws of a run: scores as by hand, one encode per chunk, asking changes nothing, and what was retrieved is what was read."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from mplus import MPlusModel
from mplus.corpus.passages import read_passages
from mplus.errors import CheckpointError, InputError
from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.report.summary import Summary
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.schedule.stream_run import Hooks, batches
from mplus.evaluation.scoring.metrics import METRICS
from mplus.evaluation.scoring.retrieval_recall import ChunkBirths, RetrievalRecall, reads
from mplus.evaluation.scoring.text_match import contains_answer, squad_normalised
from mplus.evaluation.systems.adapted import open_adapted
from mplus.evaluation.systems.factory import SystemFactory
from mplus.evaluation.systems.memory import MemoryReader, MemorySystem
from mplus.evaluation.systems.plain_model import PlainModel
from mplus.evaluation.systems.protocol import known_systems
from mplus.evaluation.systems.text import PassageSystem, TextRead, WindowSystem
from mplus.evaluation.task_run import TaskRun
from mplus.evaluation.tasks.context import StreamSource
from mplus.evaluation.tasks.retention.builder import RetentionTask
from tests import tiny
from tests.conftest import TinyModel
from tests.evaluating import FakeModel, squad_file

pytestmark = pytest.mark.slow


def question(number: int, span: tuple[int, int], text: str = "Who?", passage: str = "It is Ana.") -> Question:
    return Question(
        id=str(number), cluster=str(number), text=text, answers=("Ana",), span=span, answer_span=span, passage=passage
    )


# --- scores


@pytest.mark.parametrize(
    ("given", "answers", "right"),
    [
        ("The answer is Warsaw.", ("Warsaw",), True),
        ("WARSAW, Poland", ("the Warsaw",), True),
        ("in 1066", ("1066",), True),
        ("in 10665", ("1066",), False),
        ("It was Orange Juice", ("Rip", "orange juice!"), True),
        ("Orange and Juice", ("Orange Juice",), False),
        ("the U.S. army", ("US",), True),
        ("“Ana”", ("Ana",), True),
        ("", ("Ana",), False),
        ("anything", ("the",), False),  # nothing is left of it
    ],
)
def test_contained_answers_are_compared_as_by_squad(given: str, answers: tuple[str, ...], right: bool) -> None:
    assert contains_answer(given, answers) is right


def test_squad_normalisation_by_hand() -> None:
    assert squad_normalised(" The  Quick, an' a Brown-Fox’s ") == "quick brownfoxs"


# --- a run with a fake model


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


@pytest.fixture
def job(fake: FakeModel, tmp_path: Path) -> TaskRun:
    data = read_passages(squad_file(tmp_path / "dev.json", articles=8, paragraphs=4))
    task = RetentionTask(data=data, distances=(0, 1000), limit=6, per_passage=1, max_answer_tokens=1)
    scripts = task.scripts(fake.encode_text, chunk_tokens=32, min_tokens=4)
    for script in scripts:  # the fake reads the wanted word from the question
        for due in script.due.values():
            due[:] = [ScheduledQuestion(named(one.question), one.distance) for one in due]
    streams = [StreamSource(name=f"pass {number}", seed=5, script=script) for number, script in enumerate(scripts)]
    factory = SystemFactory(model=fake, systems=["memoryllm", "mplus"])
    return TaskRun(task="retention", factory=factory, streams=streams, metric=METRICS["contained"], settings={"limit": 6})


def named(one: Question) -> Question:
    return Question(**{**vars(one), "text": f"Which {one.answers[0]}?"})


def test_what_is_told_while_asking_are_the_answers_there_are_in_whatever_order_batches_come(
    job: TaskRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mplus.evaluation.schedule.stream_run.batches", lambda due, largest=1: [[one] for one in reversed(due)])
    told: list[tuple[int, int, list[str]]] = []
    job.run(
        tmp_path / "out", Hooks(answered=lambda _, done, total, samples: told.append((done, total, [one.id for one in samples])))
    )
    assert any(total > 1 for _, total, _ in told), "several batches are asked at one place"
    assert all(len(set(ids)) == len(ids) == done <= total for done, total, ids in told)


def test_a_run_gives_the_promised_files_and_hand_counted_shares(job: TaskRun, fake: FakeModel, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    summary = job.run(tmp_path / "out", Hooks(progress=lambda *state: seen.append(state)))
    paths = summary.paths
    assert [path.name for path in paths] == ["samples.jsonl", "summary.json", "table.md", "retention.png"]
    lines = [json.loads(line) for line in paths[0].read_text(encoding="utf-8").splitlines()]
    data = json.loads(paths[1].read_text(encoding="utf-8"))
    assert data["schema"] == 2 and data["model"] == "fake" and data["settings"] == {"limit": 6}
    assert data["systems"]["mplus"]["accuracy"] == [1.0, 1.0] and data["systems"]["mplus"]["asked"] == [6, 6]
    assert data["systems"]["memoryllm"]["accuracy"] == [1.0, 0.0]  # it holds 320 tokens
    assert data["systems"]["memoryllm"]["distances"] == [0, 1000]
    assert data["systems"]["mplus"]["ltm_tokens"][1] > 900 and data["read_budget_tokens"] == 320
    for line in lines:
        assert line["right"] == (line["given"] == line["answers"][0])
        assert abs(line["tokens_back"] - line["distance"]) <= 64
    for at, distance in enumerate((0, 1000)):
        own = [line for line in lines if line["system"] == "memoryllm" and line["distance"] == distance]
        assert data["systems"]["memoryllm"]["right"][at] == sum(line["right"] for line in own)
    assert "| 0 | 1.00 [" in paths[2].read_text(encoding="utf-8")
    with Image.open(paths[3]) as image:
        assert image.format == "PNG" and image.width >= 1000
    assert seen[0][1] == 0 and seen[-1][1] == seen[-1][2] == job.streams[-1].opened().tokens
    stored = {path.name for path in (tmp_path / "out").iterdir()}
    assert stored == {path.name for path in paths} | {"run.json", "sessions.jsonl"}
    assert summary.streams == [stream.name for stream in job.streams]


def chunks_read(stream: StreamSource) -> int:
    """Chunks up to the last question: nothing is read behind it."""
    script = stream.opened()
    ends = accumulate(map(len, script.chunks))
    return sum(end <= max(script.due) for end in ends)


def test_every_chunk_is_encoded_once_for_all_memories_and_every_stream_has_fresh_ones(
    job: TaskRun, fake: FakeModel, tmp_path: Path
) -> None:
    job.run(tmp_path / "out")
    assert fake.encoded == sum(map(chunks_read, job.streams))
    assert fake.new_memories == [{"seed": 5, "stm_tokens": 320, "ltm": False}, {"seed": 5}] * len(job.streams)


def test_several_streams_give_their_mean_and_spread(job: TaskRun, tmp_path: Path) -> None:
    assert len(job.streams) == 2
    data = job.run(tmp_path / "out").to_json()["systems"]["mplus"]
    assert data["streams"] == {"pass 0": [1.0, 1.0], "pass 1": [1.0, 1.0]}
    assert data["mean"] == [1.0, 1.0] and data["spread"] == [0.0, 0.0]


def test_samples_are_on_disk_before_the_run_ends(
    job: TaskRun, fake: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = fake.chat, []

    def failing(*arguments: Any, **named: Any) -> list[str]:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(*arguments, **named)

    monkeypatch.setattr(fake, "chat", failing)
    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "out")
    assert len((tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_a_separate_memoryllm_reads_for_itself_with_the_same_budget(job: TaskRun, tmp_path: Path) -> None:
    other = FakeModel()
    other.encode_text = job.factory.model.encode_text  # type: ignore[attr-defined]
    factory = SystemFactory(
        model=job.factory.model, systems=["mplus", "memoryllm"], memoryllm_model=other, geometry={"ltm_read_tokens": 96}
    )
    TaskRun(task="retention", factory=factory, streams=job.streams, metric=METRICS["contained"]).run(tmp_path / "out")
    chunks = sum(map(chunks_read, job.streams))
    assert other.encoded == chunks and job.factory.model.encoded == chunks  # type: ignore[attr-defined]
    assert other.new_memories[0] == {"seed": 5, "stm_tokens": 352, "ltm": False, "ltm_read_tokens": 96}


def test_questions_are_grouped_evenly_and_none_is_lost() -> None:
    due = [ScheduledQuestion(question(number, (0, 1), "x" * (number % 7)), 0) for number in range(35)]
    groups = batches(due)
    assert [len(group) for group in groups] == [12, 12, 11]
    assert sorted(int(one.question.id) for group in groups for one in group) == list(range(35))
    assert batches([]) == []


def test_unknown_systems_name_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'memoryllm'"):
        known_systems(["mplus", "memorylm"])
    with pytest.raises(InputError, match="no system was named"):
        known_systems([])
    assert known_systems(["window", "mplus", "window"]) == ["window", "mplus"]


# --- real (tiny) models


def read_text(model: MPlusModel, system: MemorySystem, tokens: int) -> None:
    reader = MemoryReader(model, [system])
    ids = torch.randint(97, 122, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    size = model.geometry.sizes.chunk_tokens
    for start in range(0, tokens, size):
        reader.read(ids[start : start + size], start)


def test_asking_changes_nothing_and_answers_are_those_of_chat(text_model: MPlusModel) -> None:
    system = MemorySystem("mplus", text_model, text_model.new_memory(seed=1))
    read_text(text_model, system, 400)
    before = tiny.contents(system.memory)
    due = [ScheduledQuestion(question(number, (32 * number, 32 * number + 9), f"Who is {number}?"), 0) for number in range(5)]
    given = system.answer(due, 6)
    assert tiny.same_contents(before, tiny.contents(system.memory))
    chats = [[{"role": "user", "content": one.question.text}] for one in due]
    assert [one.text for one in given] == [
        text.strip() for text in text_model.chat(chats, memory=system.memory, max_new_tokens=6, do_sample=False)
    ]
    assert all(one.ltm_tokens == 336 for one in given)


def test_what_was_read_is_counted_as_by_hand(text_model: MPlusModel) -> None:
    system = MemorySystem("mplus", text_model, text_model.new_memory(seed=1))
    read_text(text_model, system, 400)
    memory = system.memory
    due = [ScheduledQuestion(question(number, (20 * number, 20 * number + 13), f"Who is {number}?"), 0) for number in range(12)]
    given = system.answer(due, 2)
    prompts = ["user: " + one.question.text + "\n" for one in due]
    held = set(memory.long_term.births(0).tolist())
    short = set(memory.placement.births[0].tolist())
    hits = 0
    for one, prompt, answer in zip(due, prompts, given, strict=True):
        ids = torch.tensor([text_model.tokenizer(prompt)["input_ids"]])
        drawn = text_model(ids, memory=memory, return_retrieved=True).retrieved
        assert drawn is not None and answer.read is not None
        births = {memory.now - 1 - age for age in drawn[0].layers[0].ages.tolist()}
        right = set(range(*one.question.span))
        assert answer.read.right_in_ltm == [len(right & held)]
        assert answer.read.right_read == [len(right & births)]
        assert answer.read.answer_read == [right <= births | short]
        assert answer.read.chance == [16 / 336]
        hits += len(right & births)
    assert hits > 0


@pytest.mark.parametrize(("setup", "groups", "held"), [("per_layer", 2, 45), ("shared", 1, 48)])  # shared drops whole blocks
def test_generate_tells_what_a_forward_pass_tells(tiny_model: TinyModel, setup: str, groups: int, held: int) -> None:
    model = tiny_model("llama", setup)
    memory = tiny.filled(model, 61)
    prompt = tiny.ids(5, 4).view(1, -1)
    drawn: list[Any] = []
    model.generate(prompt, memory, max_new_tokens=3, do_sample=False, retrieved=drawn)
    expected = model(prompt, memory=memory, return_retrieved=True).retrieved
    assert expected is not None and [one.indices for one in drawn] == [one.indices for one in expected]
    found = reads(memory, everything(61), [question(0, (0, 61))], drawn)[0]
    assert found is not None
    assert found.right_in_ltm == [held] * groups and found.right_read == [8] * groups
    assert found.chance == pytest.approx([8 / held] * groups)
    assert found.answer_read == [False] * groups


def everything(tokens: int) -> ChunkBirths:
    births = ChunkBirths()
    births.note(0, tokens, 0, tokens)
    return births


def test_an_empty_long_term_memory_reads_nothing(text_model: MPlusModel) -> None:
    system = MemorySystem("mplus", text_model, text_model.new_memory(seed=1))
    read_text(text_model, system, 64)
    read = system.answer([ScheduledQuestion(question(0, (3, 9)), 0)], 1)[0].read
    assert read is not None
    assert (read.right_in_ltm, read.right_read, read.chance, read.answer_read) == ([0], [0], [0.0], [True])


def test_what_is_read_is_not_traced_where_nobody_knows_what_is_needed(text_model: MPlusModel) -> None:
    system = MemorySystem("mplus", text_model, text_model.new_memory(seed=1))
    read_text(text_model, system, 200)
    given = system.answer([ScheduledQuestion(question(0, (200, 200)), 0), ScheduledQuestion(question(1, (3, 9)), 0)], 1)
    assert given[0].read is None and given[1].read is not None


def test_chance_is_counted_like_what_was_read() -> None:
    """A question with three right tokens weighs three times as much as one with one; one without any does not count."""
    reads = [
        RetrievalRecall(right_in_ltm=[3], right_read=[3], chance=[0.1], answer_read=[True]),
        RetrievalRecall(right_in_ltm=[1], right_read=[0], chance=[0.5], answer_read=[False]),
        RetrievalRecall(right_in_ltm=[0], right_read=[0], chance=[0.0], answer_read=[True]),
    ]
    sample = Sample(
        stream="s", id="", cluster="", system="mplus", distance=0, tokens_back=0, position=0, ltm_tokens=0,
        question="", answers=(), given="", right=False,
    )  # fmt: skip
    samples = [replace(sample, id=str(number), cluster=str(number), read=read) for number, read in enumerate(reads)]
    told = Summary(task="t", model="m", samples=samples).to_json()["retrieval"]["mplus"]
    assert (told["right_share"], told["chance"], told["with_right_tokens_in_ltm"]) == ([[0.75]], [[0.2]], [2])


def test_what_was_not_asked_is_told_beside_what_was() -> None:
    sample = Sample(
        stream="s", id="a", cluster="a", system="full", distance=0, tokens_back=0, position=0, ltm_tokens=0,
        question="", answers=(), given="", right=True, score=1.0, row="short",
    )  # fmt: skip
    samples = [sample, replace(sample, id="b", cluster="b", asked=False), replace(sample, id="c", row="long", asked=False)]
    rows = Summary(task="t", model="m", samples=samples).rows()[1]
    assert rows == [["short", "1.00 [0.21, 1.00] 1 (1 not asked)"], ["long", "not asked (1)"], ["all", "-"]]


def test_births_of_a_span_follow_the_chunks_it_lies_in() -> None:
    births = ChunkBirths()
    births.note(0, 32, 0, 32)
    births.note(32, 64, 32, 48)  # two text tokens per memory token
    births.note(64, 100, 48, 64)
    assert births.of((30, 33), spread=True).tolist() == [30, 31, 32]
    assert births.of((33, 37), spread=True).tolist() == [32, 33, 34]
    assert births.of((33, 37), spread=False).tolist() == list(range(32, 48))
    assert births.of((100, 120), spread=True).tolist() == []


def test_memory_without_long_term_part_traces_nothing(text_model: MPlusModel) -> None:
    factory = SystemFactory(model=text_model, systems=["memoryllm"])
    readers, systems = factory.make(seed=0, questions=(), label="x")
    readers[0].read(list(range(97, 117)), 0)
    given = systems[0].answer([ScheduledQuestion(question(0, (0, 9)), 0)], 2)
    assert given[0].read is None and given[0].ltm_tokens == 0


def test_disk_and_ram_give_the_same_answers(text_model: MPlusModel, tmp_path: Path) -> None:
    texts = []
    for store in (None, tmp_path / "ltm"):
        factory = SystemFactory(model=text_model, systems=["mplus"], store=store)
        _, systems = factory.make(seed=3, questions=(), label="seed-0")
        assert isinstance(systems[0], MemorySystem)
        read_text(text_model, systems[0], 300)
        texts.append(
            [one.text for one in systems[0].answer([ScheduledQuestion(question(n, (0, 9), f"Who {n}?"), 0) for n in range(3)], 5)]
        )
    assert texts[0] == texts[1]
    assert (tmp_path / "ltm" / "seed-0").is_dir()


def test_passage_system_is_the_plain_model_with_the_passage_before_the_question(text_model: MPlusModel) -> None:
    system = PassageSystem(PlainModel(text_model), distance=0)
    asked = question(0, (0, 4), "Who is it?", "It is Ana.")
    assert system.wants(ScheduledQuestion(asked, 0), 5) and not system.wants(ScheduledQuestion(asked, 1000), 5)
    given = system.answer(
        [ScheduledQuestion(asked, 0), ScheduledQuestion(question(1, (0, 4), "Who?", "Ben is at home today."), 0)], 5
    )
    ids = torch.tensor([text_model.tokenizer("user: It is Ana.\n\nWho is it?\n")["input_ids"]])
    out = text_model.generate(ids, None, max_new_tokens=5, do_sample=False)
    assert given[0].text == str(text_model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()
    with pytest.raises(InputError, match="the model has 512 positions"):
        system.answer([ScheduledQuestion(question(2, (0, 4), "Who?", "Ana " * 200), 0)], 5)


def test_window_system_sees_the_end_of_the_text_only(text_model: MPlusModel) -> None:
    encode, plain = text_model.tokenizer, PlainModel(text_model)
    due = [ScheduledQuestion(question(0, (0, 4), "Who is it?"), 0)]
    long, end = TextRead(), TextRead()
    long.read(encode("z" * 700 + "x" * 600)["input_ids"], 0)
    end.read(encode("x" * 600)["input_ids"], 0)
    late = WindowSystem(plain, long).answer(due, 4)
    assert [one.text for one in late] == [one.text for one in WindowSystem(plain, end).answer(due, 4)]
    assert late[0].seen_tokens < 512
    assert WindowSystem(plain, long, budget=30).answer(due, 4)[0].seen_tokens == 30


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks transformers for it
def test_an_adapter_is_opened_onto_the_base_and_changes_it_alone(tmp_path: Path) -> None:
    base = tiny.tiny_decoder(vocabulary=256)
    base.save_pretrained(tmp_path / "base")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "base")
    model = MPlusModel.from_base(str(tmp_path / "base"), geometry=tiny.tiny_geometry(), dtype="float32")
    tuned: Any = get_peft_model(
        tiny.tiny_decoder(vocabulary=256), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_adapted(model, tmp_path / "adapter")
    ids = torch.tensor([[97, 98, 99]])
    with torch.no_grad(), model.untouched() as plain:
        assert torch.allclose(opened(ids).logits, tuned(ids).logits, atol=1e-5)
        assert not torch.allclose(plain(ids).logits, tuned(ids).logits, atol=1e-3)
    with pytest.raises(CheckpointError, match="holds no adapter"):
        open_adapted(model, tmp_path / "base")


def test_the_read_adapter_of_a_delta_may_be_the_plain_models(tmp_path: Path) -> None:
    tiny.tiny_decoder(vocabulary=256).save_pretrained(tmp_path / "base")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "base")
    made = MPlusModel.from_base(
        str(tmp_path / "base"), geometry=tiny.tiny_geometry(), dtype="float32", read_lora={"r": 2, "lora_alpha": 4}
    )
    with torch.no_grad():
        for name, value in made.parts.decoder.model.named_parameters():
            if ".lora_B." in name:
                value.normal_()
    made.save_pretrained(tmp_path / "delta")
    measured = MPlusModel.from_base(str(tmp_path / "base"), geometry=tiny.tiny_geometry(), dtype="float32")
    opened = open_adapted(measured, tmp_path / "delta")
    ids = torch.tensor([[97, 98, 99]])
    stored = MPlusModel.from_pretrained(tmp_path / "delta", dtype="float32")
    with torch.no_grad(), stored.parts.adapters.on(stored.parts.adapters.read):
        assert torch.allclose(opened(ids).logits, stored.parts.decoder.model(ids).logits, atol=1e-5)
    with torch.no_grad(), measured.untouched() as plain:
        assert not torch.allclose(opened(ids).logits, plain(ids).logits, atol=1e-3)
    measured.save_pretrained(tmp_path / "bare")
    with pytest.raises(CheckpointError, match="has no read adapter"):
        open_adapted(measured, tmp_path / "bare")


def test_script_counts() -> None:
    script = EvalStream(
        [[1, 2], [3]], {2: [ScheduledQuestion(question(0, (0, 1)), 0)], 3: [ScheduledQuestion(question(0, (0, 1)), 1)] * 2}
    )
    assert (script.tokens, script.questions) == (3, 3)
