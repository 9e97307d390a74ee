"""A write changes a memory chunk by chunk, each whole or not at all, wherever it is interrupted."""

from __future__ import annotations

import copy
import pickle
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import mplus.memory
from mplus import Memory, MPlusModel
from mplus.errors import CapacityError, InputError, ReentryError
from mplus.memory.ledger import Ledger
from mplus.memory.log import RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.short_term import ShortTerm
from mplus.memory.stores.disk import DiskStorage
from mplus.runtime import atomic
from tests.conftest import TinyModel
from tests.tiny import contents, filled, ids, same_contents

pytestmark = pytest.mark.slow

ROOM = (str(Path(mplus.memory.__file__).parent), str(Path(atomic.__file__)))
POSITIONS = 12  # of each kind; ``python -m tests.abuse`` tries thousands


def interrupted(act: Callable[[], object], line: int, where: tuple[str, ...] | str = ROOM) -> int:
    """Run `act` and raise KeyboardInterrupt at the `line`-th line of code below `where`; gives the lines that ran."""
    seen = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.startswith(where):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return seen


def held_by(memory: Memory) -> dict[str, Any]:
    """What a memory holds but for the text that waits."""
    out = contents(memory)
    del out["pending"]
    return out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt inside a finaliser
@pytest.mark.parametrize("setup", ["shared", "per_layer", "output"])
@pytest.mark.parametrize("store", ["ram", "disk"])
def test_interrupt_at_any_line_leaves_whole_chunks(tiny_model: TinyModel, setup: str, store: str, tmp_path: Path) -> None:
    model = tiny_model("llama", setup)
    where: Any = "ram" if store == "ram" else DiskStorage(tmp_path / "store", segment_rows=8)
    base = filled(model, store=where, ltm_capacity=24)
    chunk = model.geometry.sizes.chunk_tokens
    text = ids(2 * chunk, 5)
    twin = base.fork()
    states, waits = {twin.tokens_read: held_by(twin)}, twin.pending_tokens
    steps = twin.steps(text)
    wanted = next(steps, None)
    while wanted is not None:
        states[twin.tokens_read] = held_by(twin)
        written = model.encode(wanted.ids, twin, tail=wanted.tail)
        try:
            wanted = steps.send(written)
        except StopIteration:
            wanted = None
    states[twin.tokens_read] = held_by(twin)
    assert len(states) > 2
    last = base.fork()
    lines = interrupted(lambda: last.write(text), -1)
    for line in sorted(random.Random(f"{setup} {store}").sample(range(1, lines), min(POSITIONS, lines - 1))):
        memory = base.fork()
        interrupted(lambda memory=memory: memory.write(text), line)  # type: ignore[misc]
        assert memory.tokens_read in states, line
        assert same_contents(held_by(memory), states[memory.tokens_read]), line
        assert memory.pending_tokens <= waits + (chunk if setup == "output" else 0)
        assert not memory.turn.is_mine
        memory.write(ids(chunk, 9))
        assert model.generate(ids(4, 2)[None], memory=memory, max_new_tokens=2, do_sample=False).shape == (1, 6)


STEPS = [(RowLog, "appended"), (RowLog, "reserved"), (LongTerm, "followed_by"), (ShortTerm, "append"), (Ledger, "with_chunk")]


@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("setup", ["shared", "per_layer", "output"])
def test_a_chunk_that_a_part_refuses_changes_nothing(
    tiny_model: TinyModel, setup: str, owner: Any, step: str, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far a step came: the memory is as it was, and goes on as one that was never interrupted."""
    model = tiny_model("llama", setup)
    memory, twin = filled(model), filled(model)
    before, own = contents(memory), getattr(owner, step)

    def fails(*args: Any, **options: Any) -> None:
        if done:
            own(*args, **options)
        raise MemoryError

    written = model.encode(ids(8, 5), memory)
    with monkeypatch.context() as patch, pytest.raises((MemoryError, CapacityError)):
        patch.setattr(owner, step, fails)
        memory.update(written, at=1.0)
    assert same_contents(before, contents(memory))
    for one in (memory, twin):
        one.update(written, at=1.0)
        one.write(ids(20, 6), source="b", share=False)
    assert same_contents(contents(twin), contents(memory))


# -- the mode a caller is in -------------------------------------------------------------------------------------------

MODES: dict[str, Any] = {"gradients": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("setup", ["shared", "output"])
def test_memory_made_in_one_mode_is_written_and_read_in_another(
    tiny_model: TinyModel, setup: str, first: str, second: str
) -> None:
    model, prompt = tiny_model("llama", setup), ids(5, 9)[None]
    twin = filled(model)
    twin.write(ids(40, 4))
    expected = model.generate(prompt, memory=twin, max_new_tokens=4, do_sample=False)
    with MODES[first]():
        memory = filled(model)
        model.generate(prompt, memory=memory, max_new_tokens=4, do_sample=False)
    with MODES[second]():
        copy = memory.fork()
        memory.write(ids(40, 4))
        assert torch.equal(model.generate(prompt, memory=memory, max_new_tokens=4, do_sample=False), expected)
    copy.write(ids(40, 4))
    assert same_contents(contents(copy), contents(twin)) and same_contents(contents(memory), contents(twin))


@pytest.mark.parametrize("setup", ["shared", "per_layer"])
def test_defaults_of_torch_do_not_matter(tiny_model: TinyModel, setup: str) -> None:
    model, twin = tiny_model("llama", setup), filled(tiny_model("llama", setup))
    text = ids(61, 1)
    changes: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    ]
    for change, back in changes:
        change()
        try:
            memory = model.new_memory(seed=3)
            memory.write(text)
        finally:
            back()
        assert same_contents(contents(memory), contents(twin))


# -- copies ----------------------------------------------------------------------------------------------------------


def test_copies_of_a_memory_are_forks_and_pickles_are_refused(model: MPlusModel) -> None:
    memory = filled(model)
    before = contents(memory)
    for twin in (copy.copy(memory), copy.deepcopy(memory), copy.deepcopy([memory])[0]):
        assert twin.encoder is model.writer and same_contents(before, contents(twin))
        twin.write(ids(40, 6))
        assert same_contents(before, contents(memory))
    with pytest.raises(InputError, match="memory.save"):
        pickle.dumps(memory)


def test_repr_says_sizes_and_sources(text_model: MPlusModel) -> None:
    memory = text_model.new_memory()
    assert "0 tokens read" in repr(memory) and "sources: none" in repr(memory)
    for name in "abcde":
        memory.write("a text of some length ", source=name)
    assert "120 tokens read, STM 56 of 64, LTM 64 of 400, sources: a, b, c and 2 more" in repr(memory)


# -- several callers ---------------------------------------------------------------------------------------------------


def test_progress_may_look_and_fork_but_not_write(model: MPlusModel) -> None:
    memory, seen = model.new_memory(), []

    def progress(done: int) -> None:
        seen.append((memory.stats().tokens_read, len(memory.fork().short_term)))
        for change in (lambda: memory.write(ids(8)), memory.clear, lambda: model.write_many([memory], [ids(8)])):
            with pytest.raises(ReentryError, match="when that call has returned"):
                change()

    memory.write(ids(24), progress=progress)
    assert [read for read, _ in seen] == [8, 16, 24] and memory.tokens_read == 24


def test_two_threads_write_one_memory_one_after_the_other(model: MPlusModel) -> None:
    memory, texts = model.new_memory(), [ids(40, 1), ids(40, 2)]
    threads = [threading.Thread(target=memory.write, args=(text, str(n))) for n, text in enumerate(texts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = [int(chunk.sources[0][0] or 0) for chunk in memory.ledger.chunks]
    assert order in ([0] * 5 + [1] * 5, [1] * 5 + [0] * 5)
    twin = model.new_memory()
    for number in (order[0], order[-1]):
        twin.write(texts[number], str(number))
    assert same_contents(contents(twin), contents(memory))


def test_forks_taken_during_a_write_are_whole(model: MPlusModel) -> None:
    memory, forks, done = model.new_memory(), list[Memory](), threading.Event()

    def looks() -> None:
        while not done.is_set():
            forks.append(memory.fork())

    thread = threading.Thread(target=looks)
    thread.start()
    for step in range(6):
        memory.write(ids(24, step))
    done.set()
    thread.join()
    for fork in forks:
        births = fork.placement.births[0].tolist() + fork.long_term.births(0).tolist()
        assert sorted(births) == list(range(fork.now)) and fork.tokens_read == fork.now


def refused(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1234 bytes.")


def test_a_pass_without_room_is_one_sentence_and_the_text_waits(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, others = filled(model, write_context="memory"), [model.new_memory(write_context="memory") for _ in range(2)]
    read, waits = memory.tokens_read, memory.pending_tokens
    with monkeypatch.context() as patch:
        patch.setattr(model.parts.decoder.layers[-1], "forward", refused)
        with pytest.raises(CapacityError, match="nothing is lost"):
            memory.write(ids(8, 4))
        with pytest.raises(CapacityError, match=r"write fewer at once \(batch=1\)"):
            model.write_many(others, [ids(8), ids(8)])
    assert (memory.tokens_read, memory.pending_tokens) == (read, waits + 8)
    memory.write(ids(8, 5))
    assert memory.pending_tokens == 0


def test_a_pass_without_room_leaves_the_chunks_before_it_and_nothing_waits(
    model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, twin, passes = model.new_memory(), model.new_memory(), list[int]()
    layer = model.parts.decoder.layers[-1]
    own = layer.forward

    def third_fails(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return refused() if len(passes) == 3 else own(*args, **kwargs)

    text = torch.cat([ids(8, seed) for seed in (21, 22, 23, 24)])
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", third_fails)
        with pytest.raises(CapacityError, match="nothing is lost that was taken in before"):
            memory.write(text, source="a", share=False)
    twin.write(text[:16], source="a", share=False)
    assert (memory.tokens_read, memory.pending_tokens) == (16, 0) and same_contents(contents(memory), contents(twin))


def test_chunks_that_are_known_come_in_before_a_pass_that_fails(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first, memory, text = model.new_memory(), model.new_memory(), torch.cat([ids(8, seed) for seed in (31, 32, 33)])
    first.write(text[:16], source="a")
    with monkeypatch.context() as patch:
        patch.setattr(model.parts.decoder.layers[-1], "forward", refused)
        with pytest.raises(CapacityError):
            memory.write(text, source="b")
    assert memory.ids("b") == text[:16].tolist()
