"""Laws of turns: one holder, no thread waits for itself, long writers let others in, a broken holder leaves nothing locked."""

from __future__ import annotations

import threading
import time

import pytest

from mplus.errors import ReentryError
from mplus.runtime.turns import TurnLock, in_order, turn_of


def test_one_thread_at_a_time() -> None:
    lock, inside, most = TurnLock("busy"), [0], [0]

    def work() -> None:
        for _ in range(50):
            with lock.held():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and inside == [0]


def test_a_thread_that_comes_back_gets_the_sentence_and_loses_nothing() -> None:
    lock = TurnLock("you are inside")
    with lock.held():
        for _ in range(2):
            with pytest.raises(ReentryError, match="you are inside"), lock.held():
                pass
        assert lock.is_mine
        with lock.held_or_mine():
            assert lock.is_mine
        assert lock.is_mine
    assert not lock.is_mine
    with lock.held():
        pass


def test_a_block_that_nests_is_entered_again_once_at_a_time() -> None:
    lock = TurnLock("busy")
    with lock.held(nests=True):
        for _ in range(2):
            with lock.held(), pytest.raises(ReentryError), lock.held():
                pass
        assert lock.is_mine
    assert not lock.is_mine


def test_an_error_inside_gives_the_lock_back() -> None:
    lock = TurnLock("busy")
    with pytest.raises(KeyboardInterrupt), lock.held():
        raise KeyboardInterrupt
    with lock.held():
        pass


def test_a_thread_that_goes_on_taking_the_lock_lets_another_one_in() -> None:
    lock, done = TurnLock("busy"), threading.Event()

    def asks() -> None:
        with lock.held():
            done.set()

    with lock.held():
        thread = threading.Thread(target=asks)
        thread.start()
        time.sleep(0.02)  # it waits
    turns = 0
    while not done.is_set() and turns < 1000:
        with lock.held():
            time.sleep(0.001)
        turns += 1
    thread.join()
    assert turns < 100


def test_several_locks_taken_in_any_order_never_wait_in_a_circle() -> None:
    locks, finished = [TurnLock("busy") for _ in range(3)], []

    def work(order: list[TurnLock]) -> None:
        for _ in range(100):
            with in_order(order):
                time.sleep(0)
        finished.append(True)

    threads = [threading.Thread(target=work, args=(locks[start:] + locks[:start],)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(finished) == 3


def test_the_lock_of_an_object_is_one_and_goes_with_it() -> None:
    class Thing:
        pass

    thing = Thing()
    assert turn_of(thing, "a") is turn_of(thing, "b") is not turn_of(Thing(), "a")
    assert "turn" not in vars(thing)
