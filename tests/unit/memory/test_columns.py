"""Laws of growing columns: every version keeps its numbers, and appending to the newest copies nothing."""

from __future__ import annotations

import random
import threading

import torch

from mplus.memory import columns
from mplus.memory import log as row_log
from mplus.memory.columns import Column
from mplus.memory.log import RowLog
from tests.unit.memory.test_whole_updates import interrupted


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


def test_an_interrupt_at_any_line_stops_nobody_who_goes_on() -> None:
    """Neither in a column nor in a slab of the row log: a lock would stay held where the interrupt meets its release."""
    more = torch.arange(4, 7)
    for line in range(1, 40):
        column, log = Column().appended(torch.arange(4)), RowLog({"birth": ((), torch.int64)})
        log, _ = log.appended({"birth": torch.arange(4)})
        interrupted(lambda column=column: column.appended(more), line, columns.__file__)  # type: ignore[misc]
        interrupted(lambda log=log: log.appended({"birth": more}), line, row_log.__file__)  # type: ignore[misc]
        for _ in range(2):
            column = column.appended(more)
            log, _ = log.appended({"birth": more})
        assert column.values.tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6]
        assert log.gather(torch.arange(10), ("birth",))["birth"].tolist() == column.values.tolist()
