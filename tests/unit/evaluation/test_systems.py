"""Laws of the plain systems: each sees the text it says, where it fits, and answers as stock transformers would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional

from mplus import MPlusModel
from mplus.evaluation.schedule.stream import Question, ScheduledQuestion
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.memory import MemoryReader, MemorySystem
from mplus.evaluation.systems.plain_model import PlainModel
from mplus.evaluation.systems.protocol import System
from mplus.evaluation.systems.shared_context import SharedContext
from mplus.evaluation.systems.text import Bm25System, FullSystem, TextRead, WindowSystem
from tests import tiny


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    """One token a byte, 512 positions."""
    return tiny.text_model(ltm_capacity=3000)


def due(text: str = "Who?", **changes: object) -> ScheduledQuestion:
    asked: dict[str, object] = {
        "id": text,
        "cluster": text,
        "text": text,
        "answers": ("x",),
        "span": (0, 1),
        "answer_span": (0, 1),
    }
    return ScheduledQuestion(Question(**{**asked, **changes}), 0)  # type: ignore[arg-type]


TOKENIZER = tiny.byte_tokenizer()


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def read(*chunks: str) -> TextRead:
    text, start = TextRead(), 0
    for chunk in chunks:
        text.read(ids(chunk), start)
        start += len(ids(chunk))
    return text


def words(found: list[int]) -> str:
    return str(TOKENIZER.decode(found))


def test_full_context_is_the_stock_model_with_the_whole_text(model: MPlusModel) -> None:
    system = FullSystem(PlainModel(model), read("It is Ana. ", "Ben is out."))
    given = system.answer([due("Who is it?"), due("Who is out?")], 5)
    for one, question in zip(given, ("Who is it?", "Who is out?"), strict=True):
        prompt = torch.tensor([model.tokenizer(f"user: It is Ana. Ben is out.\n\n{question}\n")["input_ids"]])
        out = model.generate(prompt, None, max_new_tokens=5, do_sample=False)
        assert one.text == str(model.tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True)).strip()
        assert one.seen_tokens == 22


def test_full_context_is_asked_only_where_it_fits_and_only_about_its_own_text(model: MPlusModel) -> None:
    system = FullSystem(PlainModel(model), read("z" * 480, "It is Ana."))
    assert not system.wants(due("Who?"), 5)
    own = due("Who?", begins=480)
    assert system.wants(own, 5) and not system.wants(own, 500)
    alone = FullSystem(PlainModel(model), read("It is Ana.")).answer([due("Who?")], 5)
    assert system.answer([own], 5)[0].text == alone[0].text
    assert system.size_bytes(own) == 10 * PlainModel(model).token_bytes


@pytest.mark.parametrize("name", ["mplus", "full", "window", "bm25"])
def test_a_clock_is_told_every_token_of_an_answer_that_does_not_end_before(model: MPlusModel, name: str) -> None:
    plain, text = PlainModel(model), read("It is Ana. Ben is out.")
    memory = MemorySystem("mplus", model, model.new_memory(seed=1))
    MemoryReader(model, [memory]).read(text.ids, 0)
    systems: dict[str, System] = {
        "mplus": memory,
        "full": FullSystem(plain, text),
        "window": WindowSystem(plain, text),
        "bm25": Bm25System(plain, text, budget=20),
    }
    clock = TokenClock()
    systems[name].answer([due("Who is it?")], 7, clock=clock)
    assert len(clock.seconds) == 7 and clock.seconds == sorted(clock.seconds)
    assert clock.first_token_s == clock.seconds[0] > 0
    assert math.isclose(clock.tokens_per_s, 6 / (clock.seconds[6] - clock.seconds[0]))


def test_what_two_systems_ask_alike_is_computed_once_unless_it_is_timed(
    model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, text = PlainModel(model), read("It is Ana.")
    asked, calls = [due("Who is it?")], list[str]()

    def counted(hf_model: Any, tokenizer: Any, text: str, questions: Sequence[str], **how: Any) -> Any:
        calls.append(text)
        return SharedContext(hf_model, tokenizer, text, questions, **how)

    monkeypatch.setattr("mplus.evaluation.systems.plain_model.SharedContext", counted)
    full, window = FullSystem(plain, text), WindowSystem(plain, text)
    first, second = full.answer(asked, 5)[0], window.answer(asked, 5)[0]
    assert first.text == second.text and len(calls) == 1
    assert first.spared_s == 0 < second.spared_s  # whoever is asked first must not stand there as the slow one
    full.answer(asked, 5, clock=TokenClock())
    window.answer(asked, 5, clock=TokenClock())
    assert len(calls) == 3
    window.budget = 4
    window.answer(asked, 5)
    full.answer(asked, 5)
    assert calls[3:] == ["Ana.", "It is Ana."]


def test_bm25_gives_the_chunk_that_has_the_rare_words_within_its_budget(model: MPlusModel) -> None:
    chunks = [f"Day {number}: nothing new here at all today. " for number in range(12)]
    chunks[7] = "The zebra sleeps in the harbour of Lisbon.   "
    system = Bm25System(PlainModel(model), read(*chunks), budget=len(chunks[7]))
    assert words(system.found("Where does the zebra sleep?", 400)) == chunks[7]
    system.budget = len(chunks[7]) + len(chunks[2])
    assert words(system.found("zebra today 2", 400)) == chunks[2] + chunks[7]  # in reading order
    system.budget += 3
    assert words(system.found("zebra today 2", 400)) == chunks[2] + chunks[7] + chunks[11][:3]  # the whole budget is used
    system.budget = len(chunks[7])
    assert words(system.found("Zebra?", 10)) == chunks[7][:10]  # what does not fit is cut
    assert words(system.found("xyzzy", len(chunks[11]))) == chunks[11]  # no word is known: the newest
    system.read.read(ids("A zebra again, a zebra zebra zebra."), len(system.read.ids))
    assert system._ranked("zebra")[:2] == [12, 7]  # what was read since is found too


def test_bm25_searches_by_the_question_not_by_what_every_message_says(model: MPlusModel) -> None:
    chunks = ["You have read a text. Answer in a word.   ", "The zebra sleeps in the harbour.   "]
    system = Bm25System(PlainModel(model), read(*chunks), budget=len(chunks[1]))
    message = "Answer in a word about the text that you have read. Where is the zebra?"
    by_message, by_question = due(message), due(message, query="Where is the zebra?")
    given = system.answer([by_message, by_question], 3)
    behind = [PlainModel(model).answer_each([chunk], [message], 3)[0].text for chunk in (chunks[0][: system.budget], chunks[1])]
    assert [one.text for one in given] == behind


def test_likelihoods_are_those_of_one_stock_pass(model: MPlusModel) -> None:
    text, asked = "Ana reads a book in the garden. ", due("Then she", continuation=tuple(ids(" goes home.")))
    whole = ids(text + "Then she goes home.")
    with model.untouched() as base, torch.no_grad():
        logits = base(input_ids=torch.tensor([whole])).logits[0]
    expected = functional.cross_entropy(logits[-12:-1].float(), torch.tensor(whole[-11:]), reduction="sum").item()
    for system in (FullSystem(PlainModel(model), read(text)), WindowSystem(PlainModel(model), read(text))):
        given = system.likelihood([asked])[0]
        assert given.tokens == 11 and given.nats is not None and math.isclose(given.nats, expected, rel_tol=1e-4)


def test_likelihood_behind_a_memory_is_that_of_generating_token_by_token(model: MPlusModel) -> None:
    system = MemorySystem("mplus", model, model.new_memory(seed=1))
    reader = MemoryReader(model, [system])
    for start in range(0, 480, 32):
        reader.read(ids("abcdefgh" * 4), start)
    asked = [due("Then", continuation=tuple(ids(" he ran"))), due("And so", continuation=tuple(ids("!")))]
    together = system.likelihood(asked)
    for one, given in zip(asked, together, strict=True):
        assert given.nats is not None and math.isclose(system.likelihood([one])[0].nats or 0, given.nats, rel_tol=1e-4)
    first = model(torch.tensor([ids("And so")]), memory=system.memory).logits[0, -1].float().log_softmax(-1)
    assert math.isclose(-first[ids("!")[0]].item(), together[1].nats or 0, rel_tol=1e-4)
    assert together[0].ltm_tokens == system.memory.stats().ltm_tokens > 0


def test_what_bm25_reads_of_a_question_is_counted_without_an_answer(model: MPlusModel) -> None:
    chunks = ["You have read a text. Answer in a word.   ", "The zebra sleeps in the harbour.   "]
    first = len(chunks[0])
    system = Bm25System(PlainModel(model), read(*chunks), budget=len(chunks[1]))
    place = {"span": (first, first + 10), "answer_span": (first + 4, first + 9)}
    found, lost = system.reading([due("Where is the zebra?", **place), due("Which word of the text?", **place)])
    assert found.read is not None and lost.read is not None
    assert (found.read.answer_read, found.read.right_read, found.read.right_in_ltm) == ([True], [10], [10])
    assert (lost.read.answer_read, lost.read.right_read) == ([False], [0])
    assert found.read.chance == [len(chunks[1]) / sum(map(len, chunks))] and found.text == ""
    assert system.answer([due("Where is the zebra?", **place)], 2)[0].read == found.read
    assert system.reading([due("Where?", span=(3, 3))])[0].read is None
