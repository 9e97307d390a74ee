"""Laws of the ledger: which text a memory token came from, and that no version of it changes when another goes on."""

from __future__ import annotations

import random
import threading

from mplus.memory.ledger import Chunk, Ledger, content_key, digest_of


def ledger() -> Ledger:
    return Ledger(
        [
            Chunk(0, 4, (("a.txt", 9),), tuple(range(9)), 10.0),
            Chunk(4, 2, (("a.txt", 1), (None, 3)), (9, 20, 21, 22), 11.0),
            Chunk(10, 3, (("b.txt", 3),), None, None),
        ]
    )


def test_each_birth_belongs_to_the_chunk_that_made_it() -> None:
    made = ledger()
    owners = [made.chunk_of(birth) for birth in range(-2, 15)]
    expected = [None] * 2 + [made.chunks[0]] * 4 + [made.chunks[1]] * 2 + [None] * 4 + [made.chunks[2]] * 3 + [None] * 2
    assert owners == expected


def test_chunks_between_two_births_are_those_that_lie_there_as_a_whole() -> None:
    made = ledger()
    for begin in range(15):
        for end in range(begin, 15):
            wanted = [chunk for chunk in made.chunks if begin <= chunk.first and chunk.stop <= end]
            assert made.chunks_between(begin, end) == wanted


def test_empty_ledger_knows_no_chunk() -> None:
    assert Ledger().chunk_of(0) is None
    assert Ledger().tokens_by_source() == {}
    assert (Ledger().sources, Ledger().newest_source, Ledger().key_of("a"), Ledger().text_tokens) == ([], [], "", 0)


def test_tokens_are_counted_per_source() -> None:
    assert ledger().tokens_by_source() == {"a.txt": 10, "": 3, "b.txt": 3}
    assert ledger().text_tokens == 16 and ledger().sources == ["a.txt", None, "b.txt"]
    assert ledger().newest_source == ["b.txt"]


def test_token_ids_are_told_per_source_in_order_or_not_at_all() -> None:
    ids = ledger().ids_by_source()
    assert {name: None if held is None else [token for piece in held for token in piece] for name, held in ids.items()} == {
        "a.txt": list(range(10)),
        None: [20, 21, 22],
        "b.txt": None,
    }


def test_with_chunk_leaves_the_original_unchanged() -> None:
    made = ledger()
    listed = made.chunks
    first, second = (made.with_chunk(Chunk(13, 1, ((name, 1),))) for name in ("c", "d"))
    made.fork().with_chunk(Chunk(13, 1, (("e", 1),)))
    assert len(made) == len(made.chunks) == len(listed) == 3
    assert (first.chunks[-1].source, second.chunks[-1].source) == ("c", "d")
    assert made.chunk_of(13) is None and made.tokens_by_source().keys() == {"a.txt", "", "b.txt"}
    assert list(made.newest_of("c")) == [] and made.key_of("c") == ""


def test_ledger_equals_plain_lists_under_random_writes_and_forks() -> None:
    chooser = random.Random(3)
    for _ in range(20):
        versions: list[tuple[Ledger, list[Chunk]]] = [(Ledger(), [])]
        for _ in range(40):
            made, plain = chooser.choice(versions)
            birth = plain[-1].stop if plain else 0
            sources = tuple((chooser.choice(["a", "b", None]), chooser.randrange(1, 9)) for _ in range(chooser.choice([1, 1, 2])))
            fresh = Chunk(birth + chooser.randrange(2), chooser.randrange(1, 5), sources, key=f"{len(plain):02}")
            kin = [number for number, chunk in enumerate(plain) if chunk.source == fresh.source]
            before = sum(count for chunk in plain for name, count in chunk.sources if name == fresh.source)
            whole = fresh._replace(previous=kin[-1] if kin else -1, start=before)
            parent = made.fork() if chooser.random() < 0.3 else made
            versions.append((parent.with_chunk(fresh), [*plain, whole]))
        for made, plain in versions:
            assert made.chunks == plain and len(made) == len(plain)
            for name in ("a", "b", None):
                kin_chunks = [chunk for chunk in plain if chunk.source == name]
                assert list(made.newest_of(name)) == kin_chunks[::-1]
                assert made.key_of(name) == (kin_chunks[-1].key if kin_chunks else "")


def test_forks_go_on_in_threads_each_with_its_own_chunks() -> None:
    made, grown = ledger(), dict[int, Ledger]()
    forks = [made.fork() for _ in range(4)]

    def grows(number: int) -> None:
        held = forks[number]
        for step in range(300):
            held = held.with_chunk(Chunk(13 + step, 1, ((str(number), 1),)))
        grown[number] = held

    threads = [threading.Thread(target=grows, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all({chunk.source for chunk in grown[number].chunks[3:]} == {str(number)} for number in range(4))
    assert [len(grown[number]) for number in range(4)] == [303] * 4 and len(made) == 3


def test_content_key_tells_text_and_what_stands_before_it() -> None:
    first = content_key("", [1, 2])
    assert first == content_key("", (1, 2)) and len(bytes.fromhex(first)) == 16
    others = {content_key("", [2, 1]), content_key("", [1, 2, 0]), content_key(first, [1, 2]), content_key(first, [3])}
    assert len(others | {first}) == 5


def test_digest_is_that_of_the_token_ids_however_they_are_held() -> None:
    assert digest_of([[1, 2, 300]]) == digest_of([(1, 2), (300,)]) != digest_of([[1, 2]])
    assert len(digest_of([])) == 64
