"""Laws of growing columns: every version keeps its numbers, and appending to the newest copies nothing."""

from __future__ import annotations

import random
import threading

import torch

from mplus.memory.columns import Column


def test_every_version_equals_a_plain_list_whatever_the_others_did() -> None:
    for seed in range(10):
        chooser = random.Random(seed)
        versions: list[tuple[Column, list[int]]] = [(Column(), []), (Column(torch.arange(5)), list(range(5)))]
        for step in range(200):
            column, plain = versions[-1] if chooser.random() < 0.6 else chooser.choice(versions)
            if chooser.random() < 0.7:
                more = [1000 * step + place for place in range(chooser.choice([0, 1, 3, 40, 300]))]
                versions.append((column.appended(torch.tensor(more, dtype=torch.int64)), plain + more))
            else:
                count = chooser.choice([0, 1, 5, len(plain) // 2, len(plain) + 3])
                versions.append((column.without_first(count), plain[count:]))
        for column, plain in versions:
            assert column.values.tolist() == plain and len(column) == len(plain)


def test_appending_to_the_newest_moves_nothing() -> None:
    column = Column().appended(torch.arange(10))
    before = column.values.data_ptr()
    for step in range(20):
        column = column.appended(torch.arange(3) + 10 + 3 * step)
    assert column.values.data_ptr() == before and column.values.tolist() == list(range(70))


def test_a_front_that_is_gone_takes_no_room_for_ever() -> None:
    column = Column()
    for step in range(500):
        column = column.appended(torch.arange(10) + 10 * step)
        column = column.without_first(max(0, len(column) - 20))
    assert column.values.tolist() == list(range(4980, 5000))
    assert column._buffer.values.shape[0] < 1000


def test_threads_that_append_to_one_version_each_get_their_own() -> None:
    base, grown = Column().appended(torch.arange(7)), dict[int, Column]()
    gate = threading.Barrier(4)

    def grows(number: int) -> None:
        column = base
        gate.wait()
        for step in range(300):
            column = column.appended(torch.tensor([1000 * (number + 1) + step]))
        grown[number] = column

    threads = [threading.Thread(target=grows, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert grown[number].values.tolist() == [*range(7), *range(1000 * (number + 1), 1000 * (number + 1) + 300)]
    assert base.values.tolist() == list(range(7))


def test_real_numbers_are_kept_as_such() -> None:
    column = Column(dtype=torch.float32).appended(torch.tensor([0.5, 1.5]))
    assert column.values.dtype is torch.float32 and column.values.tolist() == [0.5, 1.5]
