"""Laws of decoding together: each row gets the tokens it gets alone, whoever joins and leaves; the model is as before afterwards."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.inference.continuation import Continuation
from mplus.inference.decode_batch import DecodeBatch
from mplus.inference.prefill import Prefill, passages_of
from mplus.inference.sampling import Sampler, Sampling
from tests.tiny import filled, ids, text_model, tiny_model

NEW = 12
GREEDY = Sampling()


Job = tuple[list[int], Memory | None, Sampling, int, Any]
"""Token ids of a prompt, its memory, how tokens are chosen, how many of them, the query."""


class Group:
    """Prompts that pass together in pieces; each is then decoded in a batch."""

    def __init__(self, model: MPlusModel, jobs: dict[int, Job]) -> None:
        self.numbers = list(jobs)
        rows, memories, samplings, new, queries = zip(*jobs.values(), strict=True)
        held = None if memories[0] is None else list(memories)
        given = None if queries[0] is None else [query[0] for query in queries]
        self.prefill = Prefill(model.reader, list(rows), held, queries=given, new_tokens=max(new))
        self.answers = [
            Continuation(Sampler(sampling, model.device), frozenset(), tokens)
            for sampling, tokens in zip(samplings, new, strict=True)
        ]


def run(model: MPlusModel, jobs: Sequence[Job], *, seed: int = 0) -> list[list[int]]:
    """Tokens of all jobs, which begin at random, some together, pass in pieces of random sizes and leave when they have ended."""
    chance, done = random.Random(seed), dict[int, list[int]]()
    batches: dict[str | None, tuple[DecodeBatch, list[tuple[int, Continuation]]]] = {}
    waiting, passing = dict(enumerate(jobs)), list[Group]()
    while len(done) < len(jobs):
        if waiting and chance.random() < 0.4:
            kind = next(iter(waiting.values()))
            alike = [number for number, job in waiting.items() if (job[1] is None) == (kind[1] is None)]
            passing.append(Group(model, {number: waiting.pop(number) for number in alike[: chance.randint(1, 4)]}))
        for group in list(passing):
            if not group.prefill.is_done:
                group.prefill.advance(chance.choice((1, 3, 8)))
            if group.prefill.is_done:
                passing.remove(group)
                join(model, group, batches)
        for batch, rows in batches.values():
            for place in reversed(range(len(rows))):
                if rows[place][1].ending is not None:
                    done[rows[place][0]] = rows[place][1].tokens
                    batch.leave(place)
                    rows[place] = rows[-1]
                    rows.pop()
            assert len(batch) == len(rows)
            if rows:
                logits, failed = batch.step([answer.tokens[-1] for _, answer in rows])
                assert not failed
                for (_, answer), own in zip(rows, logits, strict=True):
                    answer.take(own)
    return [done[number] for number in range(len(jobs))]


def join(model: MPlusModel, group: Group, batches: dict[str | None, tuple[DecodeBatch, list[tuple[int, Continuation]]]]) -> None:
    """Give each prompt of a group its first token, and take it into the batch."""
    prefill = group.prefill
    batch, rows = batches.setdefault(prefill.adapter, (DecodeBatch(model.reader, prefill.adapter), []))
    assert prefill.logits is not None
    for prompt, (number, answer) in enumerate(zip(group.numbers, group.answers, strict=True)):
        answer.take(prefill.logits[prompt])
        batch.join(prefill, prompt)
        rows.append((number, answer))
    prefill.release()


def alone(model: MPlusModel, row: list[int], memory: Memory | None, new: int, query: Any = None) -> list[int]:
    """The tokens that ``generate`` makes."""
    options = {"query": query} if query is not None else {}
    out = model.generate(torch.tensor([row]), memory=memory, max_new_tokens=new, do_sample=False, **options)
    found: list[int] = out[0, len(row) :].tolist()
    return found


def untouched(model: MPlusModel) -> tuple[Any, ...]:
    """What a pass changes while it runs."""
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.parts.decoder.model.modules()]
    return hooks, model.parts.adapters._current, model.parts.decoder.config._attn_implementation, model.parts.decoder.hooked[:]


@pytest.mark.parametrize(
    ("family", "setup"),
    [
        ("llama", "shared"),
        ("qwen3", "recent"),
        ("mistral", "best_last"),
        ("gemma", "shared"),
        ("llama", "per_layer"),
        ("qwen2", "mixed"),
    ],
)
def test_rows_that_join_and_leave_get_the_tokens_they_get_alone(family: str, setup: str) -> None:
    model = tiny_model(family, setup)
    before = untouched(model)
    memories = [filled(model, 30 + 17 * number, text_seed=number) for number in range(3)] + [None, model.new_memory()]
    jobs = [
        (ids(3 + 4 * (number % 5), 50 + number).tolist(), memories[number % 5], GREEDY, 3 + 5 * (number % 4), None)
        for number in range(13)
    ]
    expected = [alone(model, row, memory, new) for row, memory, _, new, _ in jobs]
    for seed in range(2):
        assert run(model, jobs, seed=seed) == expected
    assert untouched(model) == before
    assert [alone(model, row, memory, new) for row, memory, _, new, _ in jobs] == expected


def test_buffers_that_grow_and_shift_keep_every_row() -> None:
    model = tiny_model(config={"positions": 2048})
    memory = filled(model)
    jobs = [(ids(5 + 40 * (number % 3), number).tolist(), memory, GREEDY, 20 + 90 * (number % 4), None) for number in range(9)]
    assert run(model, jobs, seed=3) == [alone(model, row, memory, new) for row, memory, _, new, _ in jobs]


def test_earlier_turns_pass_in_pieces_as_they_do_whole() -> None:
    model = text_model(positions=1024, read_order="score")
    memory = model.new_memory()
    memory.write("The lamp is kept by Anna. The boat is kept by Bert. " * 4, source="log")
    messages = [
        {"role": "user", "content": "Who keeps the lamp?"},
        {"role": "assistant", "content": "Anna does."},
        {"role": "user", "content": "and the boat?"},
    ]
    row, query = model.reader.chat_row(messages, behind_memory=True)
    prefill = Prefill(model.reader, [row], [memory], queries=query, new_tokens=NEW)
    assert prefill.reading is not None and prefill.reading.turns is not None
    assert run(model, [(row, memory, GREEDY, NEW, query)] * 3) == [alone(model, row, memory, NEW, query)] * 3


def test_a_seed_gives_the_same_tokens_whatever_else_is_in_the_batch() -> None:
    model = tiny_model()
    memory = filled(model)
    drawn = [Sampling(temperature=1.0, top_p=0.9, top_k=20, seed=seed, frequency_penalty=0.5) for seed in range(4)]
    jobs: list[Job] = [
        (ids(6, 9).tolist(), memory if number % 2 else None, sampling, NEW, None) for number, sampling in enumerate(drawn)
    ]
    together = run(model, jobs)
    assert together == [run(model, [job], seed=8)[0] for job in jobs]
    assert len({tuple(tokens) for tokens in together}) > 2


def test_the_memory_may_be_written_between_pieces() -> None:
    model = tiny_model()
    memory = filled(model)
    row = ids(20, 4).tolist()
    expected = alone(model, row, memory, NEW)
    prefill = Prefill(model.reader, [row], [memory], new_tokens=NEW)
    prefill.advance(5)
    memory.write(ids(40, 77))
    memory.become(memory.fork().state)
    while not prefill.is_done:
        prefill.advance(5)
    batch, answer = DecodeBatch(model.reader, prefill.adapter), Continuation(Sampler(GREEDY, model.device), frozenset(), NEW)
    assert prefill.logits is not None
    answer.take(prefill.logits[0])
    batch.join(prefill)
    while answer.ending is None:
        answer.take(batch.step(answer.tokens[-1:])[0][0])
    assert answer.tokens == expected
    assert alone(model, row, memory, NEW) != expected


def test_one_row_that_fails_leaves_the_others_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    memory = filled(model)
    rows = [ids(6, number).tolist() for number in range(3)]
    expected = [alone(model, row, memory, 2) for row in rows]
    batch, first = DecodeBatch(model.reader, model.parts.adapters.read), list[int]()
    for row in rows:
        prefill = Prefill(model.reader, [row], [memory], new_tokens=2)
        prefill.advance(100)
        assert prefill.logits is not None
        first.append(int(prefill.logits[0].argmax()))
        batch.join(prefill)
    forward = model.parts.decoder.model.forward

    def broken(*args: Any, **kwargs: Any) -> Any:
        if first[1] in kwargs["input_ids"].flatten().tolist():
            raise RuntimeError("this row cannot go on")
        return forward(*args, **kwargs)

    assert len(set(first)) == 3
    monkeypatch.setattr(model.parts.decoder.model, "forward", broken)
    logits, failed = batch.step(first)
    assert list(failed) == [1]
    assert [logits[row].argmax().item() for row in (0, 2)] == [expected[0][1], expected[2][1]]


def test_what_a_search_gives_is_what_an_answer_reads() -> None:
    model = text_model()
    memory = model.new_memory()
    memory.write("The lamp is kept by Anna. The boat is kept by Bert. " * 6, source="log")
    (row,) = model.reader.text_rows(["Who keeps the boat?"], behind_memory=True)
    found = passages_of(model.reader, row, memory)
    answer = model.generate("Who keeps the boat?", memory=memory, trace=True, max_new_tokens=1)
    assert found == answer.trace and found.retrieved
