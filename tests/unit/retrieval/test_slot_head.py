"""Laws of the same-slot head: what it compares, what it learns, and that a search reads by what it says.

Legend: F search width, t tokens of a prompt, c windows, n keys of a window.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever, _rows_of
from mplus.retrieval.result import RetrievalResult
from mplus.retrieval.slot_head import SlotHead
from mplus.training.objectives.slots import MOST_SAME, Judged, judged_windows, slot_loss
from tests.tiny import byte_tokenizer, ids, tiny_decoder, tiny_geometry

WIDTH, BLOCK = 12, 4
PLACED: dict[str, Any] = {"dtype": "float32", "device": "cpu"}


def head(rank: int = 6) -> SlotHead:
    torch.manual_seed(3)
    return SlotHead(WIDTH, rank)


def test_keys_that_a_window_lacks_and_tokens_without_weight_change_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    query, keys = torch.randn(2, 3, WIDTH, generator=generator), torch.randn(2, 4, 5, WIDTH, generator=generator)
    weight, held, best = (
        torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]),
        torch.ones(2, 4, 5, dtype=torch.bool),
        torch.tensor([0, 2]),
    )
    held[:, :, 4] = False
    logits = head()(query, weight, keys, held, best)
    assert logits.shape == (2, 4)
    others = keys.clone()
    others[:, :, 4] = 99.0
    asked = query.clone()
    asked[0, 2], asked[1, 1:] = 7.0, 7.0
    torch.testing.assert_close(head()(asked, weight, others, held, best), logits)
    alone = head()(query[1:, :1], weight[1:, :1], keys[1:, 2:3, :4], held[1:, 2:3, :4], torch.tensor([0]))
    torch.testing.assert_close(alone[0, 0], logits[1, 2])


def test_it_learns_a_look_alike_from_a_correction_where_the_match_is_the_same() -> None:
    """Each window matches every word as well as the best; the key at the name differs in what no question asks for."""
    torch.manual_seed(5)
    judge, losses = head(), list[float]()
    optimiser = torch.optim.AdamW(judge.parameters(), lr=1e-2)

    def batch(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        names = torch.randn(count, 3, 5, generator=generator)
        query = torch.zeros(count, 2, WIDTH)
        query[:, 0, 0], query[:, 1, 1] = 4.0, 4.0
        keys = torch.zeros(count, 3, 2, WIDTH)  # best, correction, look-alike; name, relation
        keys[:, :, 0, 0], keys[:, :, 1, 1] = 4.0, 4.0
        keys[:, 0, 0, 2:7], keys[:, 1, 0, 2:7], keys[:, 2, 0, 2:7] = names[:, 0], names[:, 0], names[:, 1]
        return query, torch.full((count, 2), 0.5), keys, torch.ones(count, 3, 2, dtype=torch.bool)

    label = torch.tensor([1.0, 0.0])
    for step in range(150):
        logits = judge(*batch(32, step), torch.zeros(32, dtype=torch.int64))[:, 1:]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, label.expand_as(logits))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    right = (judge(*batch(64, 999), torch.zeros(64, dtype=torch.int64))[:, 1:] > 0) == (label > 0)
    assert right.float().mean() > 0.9


def test_judged_are_the_best_right_windows_and_the_best_wrong_ones() -> None:
    scores = torch.tensor([[5.0, 9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    right = torch.tensor([[True, False, True, False, False], [False, False, False, False, True]])
    known = torch.tensor([[True, True, True, False, True], [True] * 5])
    judged = judged_windows(scores, right, known)
    assert judged.windows[:, 0].tolist() == [2, 4]  # compared with the best right one
    assert judged.windows[judged.same].tolist() == [0]
    assert set(judged.windows[0][judged.other[0]].tolist()) == {1, 4} and int(judged.other[1].sum()) == 4
    assert not (judged.same & judged.other).any() and not judged.same[:, 0].any() and MOST_SAME >= 5


def test_the_loss_trains_the_head_alone_and_no_window_goes_beyond_its_chunk() -> None:
    generator = torch.Generator().manual_seed(2)
    query, keys = torch.randn(1, 3, WIDTH, generator=generator, requires_grad=True), torch.randn(16, WIDTH, generator=generator)
    weight = torch.full((1, 3), 1 / 3)
    judged = Judged(torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, False]]), torch.tensor([[False, False, True]]))
    sizes = {"block": BLOCK, "window": 2, "tokens": 8}
    judge = head()
    loss, logits = slot_loss(judge, query, weight, keys.requires_grad_(), judged, **sizes)
    loss.backward()
    assert keys.grad is None and query.grad is None
    assert all(value.grad is not None and bool(value.grad.any()) for value in judge.parameters())
    beyond = keys.detach().clone()
    beyond[8:] = 50.0  # of the next chunk: window 1 ends with its chunk
    assert float(slot_loss(judge, query, weight, beyond, judged, **sizes)[1][0, 1]) == pytest.approx(float(logits[0, 1]))
    nothing = Judged(judged.windows, torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool))
    assert slot_loss(judge, query, weight, keys, nothing, **sizes)[0].item() == 0.0


def test_rows_of_a_window_are_those_of_blocks_that_follow_each_other() -> None:
    follows = torch.tensor([True, False, False])
    rows, held = _rows_of(torch.tensor([0, 1, 2]), follows, 2, BLOCK, 11)
    assert [row[own].tolist() for row, own in zip(rows, held, strict=True)] == [list(range(8)), [4, 5, 6, 7], [8, 9, 10]]


# -- a search with a head ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("base")
    tiny_decoder(vocabulary=256).save_pretrained(place)
    byte_tokenizer().save_pretrained(place)
    return place


def opened(base: Path, **parts: Any) -> MPlusModel:
    geometry = tiny_geometry(read_order="score", ltm_read_tokens=32, neighbour_blocks=1, same_slot="newest")
    torch.manual_seed(6)
    return MPlusModel.from_base(base, geometry=geometry, key_width=6, **parts, **PLACED)


def slot_of(model: MPlusModel, **options: Any) -> RetrievalResult:
    memory = model.new_memory(seed=4, **options)
    for number in range(4):
        memory.write(ids(24, number), source=str(number))
    found = model(ids(6, 99)[None], memory=memory, return_retrieved=True).retrieved
    assert found is not None
    result: RetrievalResult = found[0].layers[0]
    return result


@pytest.mark.parametrize("options", [{}, {"store": "disk"}, {"ltm_dtype": "int8", "ltm_search_dtype": "int8"}])
def test_windows_of_a_slot_are_those_that_the_head_takes_for_the_same(
    base: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], tmp_path: Path
) -> None:
    model, seen = opened(base, slot_rank=4), list[Tensor]()

    def judged(self: SlotHead, query: Tensor, weight: Tensor, keys: Tensor, held: Tensor, best: Tensor) -> Tensor:
        match = torch.einsum("btf,bcnf->btcn", query, keys.float()).masked_fill(~held[:, None], float("-inf")).amax(-1)
        seen.append((weight[:, :, None] * match).sum(1)[0])
        logits = torch.full((1, keys.shape[1]), -1.0)
        logits[0, 0] = 1.0
        return logits

    monkeypatch.setattr(SlotHead, "forward", judged)
    result = slot_of(model, **({**options, "store": tmp_path / "disk"} if "store" in options else options))
    assert result.windows is not None and result.slot is not None
    best = int(result.windows.argmax())
    near = (result.windows >= 0.5 * result.windows.amax()).nonzero()[:, 0]
    torch.testing.assert_close(seen[0], result.windows[near].float(), rtol=2e-2, atol=2e-2)  # the very windows that were scored
    assert set(result.slot.nonzero()[:, 0].tolist()) == {int(near[0]), best}


def test_a_head_is_kept_with_the_delta_and_a_delta_without_one_reads_by_the_rule(base: Path, tmp_path: Path) -> None:
    model, plain = opened(base, slot_rank=4), opened(base)
    for name, one in {"head": model, "plain": plain}.items():
        one.save_pretrained(tmp_path / name)
    again, bare = (MPlusModel.from_pretrained(tmp_path / name, **PLACED) for name in ("head", "plain"))
    retriever, own = again.parts.retriever, model.parts.retriever
    assert isinstance(retriever, LateInteractionRetriever) and retriever.slot_head is not None and own is not None
    stored = retriever.state_dict()  # in half precision
    assert all(torch.equal(value.bfloat16().float(), stored[name]) for name, value in own.state_dict().items())
    own.load_state_dict(stored)
    kept, without = slot_of(again).slot, slot_of(bare).slot
    expected = slot_of(model).slot
    assert kept is not None and expected is not None and torch.equal(kept, expected)
    assert isinstance(bare.parts.retriever, LateInteractionRetriever) and bare.parts.retriever.slot_head is None
    assert "slot_rank" not in bare.parts.retriever.spec and without is not None
