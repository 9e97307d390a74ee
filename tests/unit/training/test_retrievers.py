"""Training of a search on a bank of stored states: what is right, what is found, which parameters move, both losses.

Legend: V layers, C chunks, T tokens of a chunk, Q questions, D width.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.bank.question_states import question_states, reading_states
from mplus.training.bank.state_bank import StateBank, make_state_bank
from mplus.training.data.document import Document, Question
from mplus.training.objectives import retrieval as vote
from mplus.training.objectives.retrievers import (
    READ_SHARE,
    LateInteractionObjective,
    Loss,
    PerLayerObjective,
    RetrievalBatch,
    RetrieverObjective,
)
from tests.tiny import byte_tokenizer, filled, ids, text_model, tiny_decoder, tiny_geometry, tiny_model

LAYERS, CHUNKS, TOKENS, WIDTH, ASKED = 3, 8, 16, 12, 10
LOSSES: list[Loss] = ["contrastive", "paper"]
SPAN = (5, 8)
PLACED: dict[str, Any] = {"dtype": "float32", "device": "cpu"}


def bank(*, is_fact: bool = True) -> StateBank:
    """Random states; the tokens of a question's place carry its prompt's state, so that it can be found."""
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(LAYERS, CHUNKS, TOKENS, WIDTH, generator=generator)
    prompts = torch.randn(LAYERS, ASKED, 4, WIDTH, generator=generator)
    mask = torch.ones(ASKED, 4, dtype=torch.bool)
    mask[0, :2] = False
    asked = [(number % CHUNKS, Question("q", "a", SPAN, is_fact)) for number in range(ASKED)]
    for number in range(CHUNKS):
        states[:, number, slice(*SPAN)] = prompts[:, number, -1:]
    return StateBank(states, prompts, mask, asked, TOKENS)


def batch(layers: list[int], questions: int = ASKED) -> RetrievalBatch:
    return RetrievalBatch(0, torch.arange(CHUNKS), list(range(questions)), layers)


def by_vote(loss: Loss) -> LateInteractionObjective:
    torch.manual_seed(4)
    geometry = tiny_geometry(block_tokens=4, chunk_tokens=TOKENS, new_tokens=TOKENS, stm_tokens=32)
    return LateInteractionObjective(LateInteractionRetriever(tuple(range(LAYERS)), WIDTH, 6, window=2), geometry, loss, 1.0)


def per_layer(loss: Loss, step_layers: int = LAYERS) -> PerLayerObjective:
    torch.manual_seed(4)
    return PerLayerObjective(PerLayerRetriever(LAYERS, WIDTH, 6), loss, step_layers)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("make", [by_vote, per_layer])
def test_both_losses_fall_and_more_is_found(make: Callable[[Loss], RetrieverObjective], loss: Loss) -> None:
    finding = make(loss)
    held = bank()
    optimiser = torch.optim.AdamW([value for group in finding.groups() for _, value in group.parameters], lr=1e-2)
    step = batch(list(range(LAYERS)), CHUNKS)
    losses, shares = [], []
    for _ in range(60):
        outcome = finding.outcome(held, step)
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()
        losses.append(outcome.loss.item())
        total, count = outcome.metrics["found facts"]
        shares.append(total / count)
    assert losses[-1] < 0.6 * losses[0]
    assert shares[-1] > 0.9 > shares[0]


def test_the_votes_chance_is_the_weighted_mean_of_the_sigmoid_of_the_best_match_in_a_window() -> None:
    finding, held = by_vote("paper"), bank()
    with torch.no_grad():
        finding.retriever.weigh.weight.normal_(generator=torch.Generator().manual_seed(1))
        step = batch([0, 1, 2])
        keys = finding.retriever.keys([part.flatten(0, 1) for part in held.states])
        query, weight = finding.retriever.queries(list(held.prompts), held.mask)
        match = (query @ keys.T).float()  # [Q, t, C * T]
        right, known = finding.targets(held, step)
        slow = []
        for row in range(ASKED):
            chances = []
            for block in range(CHUNKS * 4):
                last = (block + 2) * 4 if block % 4 < 3 else (block + 1) * 4  # no window goes on into the next chunk
                best = match[row, :, block * 4 : last].amax(1)
                chances.append((weight[row] * best.sigmoid()).sum())
            chance = torch.stack(chances)
            positive, negative = chance[right[row]].mean(), chance[known[row] & ~right[row]].mean()
            slow.append(-positive.log() - torch.log1p(-negative))
        assert float(finding.outcome(held, step).loss) == pytest.approx(float(torch.stack(slow).mean()), rel=1e-4)


def test_right_tokens_are_the_place_and_the_rest_of_a_passage_is_neither() -> None:
    for is_fact in (True, False):
        right, known = PerLayerObjective.targets(bank(is_fact=is_fact), batch([0]))
        for row in range(ASKED):
            own = slice(row % CHUNKS * TOKENS, (row % CHUNKS + 1) * TOKENS)
            assert right[row].nonzero()[:, 0].tolist() == [own.start + token for token in range(*SPAN)]
            assert int((~known[row]).sum()) == (0 if is_fact else TOKENS - (SPAN[1] - SPAN[0]))
            assert bool(known[row, : own.start].all()) and bool(known[row, own.stop :].all())


class Known(PerLayerRetriever):
    """Scores as given."""

    table: Tensor

    def scores(self, layer: int, normed_BTD: Tensor, text_BT: Tensor, keys_MR: Tensor) -> Tensor:
        return self.table


def test_what_is_found_is_the_share_of_right_tokens_among_the_best_sixteenth() -> None:
    retriever = Known(LAYERS, WIDTH, 6)
    finding, held = PerLayerObjective(retriever, "paper", 1), bank()
    budget = CHUNKS * TOKENS // READ_SHARE
    wrong = [token for token in range(CHUNKS * TOKENS) if token % TOKENS not in range(*SPAN)]
    retriever.table = torch.full((2, CHUNKS * TOKENS), 0.1)
    retriever.table[0, 5], retriever.table[0, 6] = 0.9, 0.8  # two of the three right tokens, the third behind the budget
    retriever.table[0, wrong[: budget - 2]] = 0.5
    retriever.table[1, wrong[:budget]] = 0.5
    total, count = finding.outcome(held, batch([0], 2)).metrics["found facts"]
    assert total == pytest.approx(2 / 3) and count == 2


def test_what_the_vote_finds_is_counted_in_tokens_of_the_blocks_that_are_read() -> None:
    finding, held = by_vote("contrastive"), bank()
    finding.retriever.window = 1
    scores = torch.zeros(2, CHUNKS * 4)  # a read holds two of these blocks
    scores[0, 1], scores[0, 20] = 2.0, 1.0  # tokens 4 to 7 of chunk 0: the whole place
    scores[1, 20], scores[1, 24] = 2.0, 1.0
    assert finding._found(scores, held, batch([0], 2)).tolist() == [1.0, 0.0]


def test_a_step_trains_the_layers_it_draws_and_no_other() -> None:
    finding, held = per_layer("contrastive", 2), bank()
    layers = finding.draw(random.Random(3))
    assert len(layers) == 2 and layers == sorted(set(layers))
    finding.outcome(held, batch(layers)).loss.backward()
    for layer in range(LAYERS):
        for part in (finding.retriever.query_proj[layer], finding.retriever.key_proj[layer]):
            assert all((value.grad is not None) == (layer in layers) for value in part.parameters())


def test_a_vote_takes_nothing_from_the_random_state_to_draw_its_layers() -> None:
    randomness = random.Random(3)
    before = randomness.getstate()
    assert by_vote("paper").draw(randomness) == [0, 1, 2]
    assert randomness.getstate() == before


def test_a_place_in_a_compressed_memory_is_that_of_the_tokens_which_stand_for_it() -> None:
    held = bank()
    held.chunk_tokens = 4 * TOKENS  # one memory token for four of the text
    assert held.span(0) == (1, 2)
    held.questions[0] = (0, Question("q", "a", (8, 17), True))
    assert held.span(0) == (2, 5)


def test_states_of_a_read_are_what_the_layers_searched_with() -> None:
    """The twin: hidden states that a plain call of the model gives, through each layer's norm."""
    model = tiny_model(setup="per_layer")
    memories = [filled(model, 16, seed=seed, text_seed=seed, ltm=False) for seed in (1, 2)]
    rows = [ids(count, count).tolist() for count in (5, 7, 6)]
    states, mask = reading_states(model, rows, memories)
    assert mask.sum(1).tolist() == [5, 7, 6]
    decoder = model.parts.decoder
    for row, tokens in enumerate(rows):
        out = model(torch.tensor([tokens]), memory=memories[row % 2], output_hidden_states=True)
        assert out.hidden_states is not None
        for layer in range(decoder.depth):
            with torch.no_grad():
                wanted = decoder.normed(layer, out.hidden_states[layer][0])
            torch.testing.assert_close(states[layer, row, mask[row]], wanted, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in decoder.model.modules())


def test_the_writer_gives_states_of_any_layers() -> None:
    """The first layer's are the embedded text through that layer's norm."""
    model = tiny_model(setup="per_layer")
    decoder = model.parts.decoder
    text = ids(8, 5)
    (rows,) = ChunkEncoder(model, (0, 1), "kv").stream([text.tolist()] * 2)
    with torch.no_grad():
        wanted = decoder.normed(0, decoder.body.embed_tokens(text))
    for states in rows["states"][:, 0]:
        torch.testing.assert_close(states, wanted)
    states, _ = question_states(model, (0, 1), [text.tolist()])
    torch.testing.assert_close(states[0, 0], wanted)


@pytest.mark.parametrize(("setup", "told"), [("shared", "key_width"), ("output", "write_tap")])
def test_a_model_that_cannot_be_trained_so_is_refused_in_one_sentence(setup: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=told):
        vote.build(tiny_model(setup=setup), vote.Settings(data=str(tmp_path)), 0)


def test_all_places_of_a_thing_are_right_and_of_a_passage_only_the_rest_is_unjudged() -> None:
    held = bank()
    held.questions[0] = (0, Question("q", "a", (8, 12), True, "update", also=((0, 4),)))
    held.questions[1] = (1, Question("q", "a", (4, 8), False, "nq", within=(0, 8)))
    right, known = PerLayerObjective.targets(held, batch([0], 2))
    assert right[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11] and bool(known[0].all())
    assert (~known[1]).nonzero()[:, 0].tolist() == [TOKENS + token for token in range(4)]  # another passage of the chunk is wrong
    finding = by_vote("contrastive")
    finding.retriever.window = 1
    right, known = finding.targets(held, batch([0, 1, 2], 2))
    assert right[0].nonzero()[:, 0].tolist() == [0, 2] and bool(known[0].all())
    assert right[1].nonzero()[:, 0].tolist() == [5] and (~known[1]).nonzero()[:, 0].tolist() == [4]


def test_a_bank_asks_what_has_a_place_and_needs_no_earlier_turn() -> None:
    model = text_model()
    chunk = tuple(ids(model.geometry.sizes.chunk_tokens, 3).tolist())
    place = Question("where", "a", (2, 5), True)
    asked = (place, Question("who", "b", (0, 0), False, "absent"), Question("and", "c", (2, 5), True, turns=(("a", "b"),)))
    held = make_state_bank(model, (0,), [Document((chunk,), questions=asked)], random.Random(1), per_chunk=4, plain_share=1.0)
    assert held.questions == [(0, place)]


def test_a_trained_search_goes_on_and_the_reader_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    tiny_decoder(vocabulary=256, positions=4096).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    sizes = {"chunk_tokens": 512, "new_tokens": 512, "stm_tokens": 1024, "ltm_read_tokens": 16, "block_tokens": 16}
    made = MPlusModel.from_base(
        tmp_path / "base", geometry=tiny_geometry(**sizes), key_width=6, read_lora={"r": 2, "lora_alpha": 4}, **PLACED
    )
    made.save_pretrained(tmp_path / "first")
    model, before = MPlusModel.from_pretrained(tmp_path / "first", **PLACED), load_file(tmp_path / "first" / "delta.safetensors")
    fingerprint = model.fingerprint
    settings = vote.Settings(data=str(data), documents={"corrections": 2, "articles": 1}, chunks=6, step_chunks=6, slot_rank=3)
    task = vote.build(model, settings, 0)
    assert [group.name for group in task.groups()] == ["vote", "scale", "slot"]
    task.prepare()
    optimiser = torch.optim.AdamW([value for group in task.groups() for _, value in group.parameters], lr=1e-3)
    step = task.forward(task.draw())
    assert step.metrics["same slot"][1] > 0 and step.metrics["other slot"][1] > 0
    step.loss.backward()
    optimiser.step()
    task.save(tmp_path / "second")
    after = load_file(tmp_path / "second" / "delta.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("retriever.") for name in changed)
    assert after.keys() - before.keys() == {name for name in after if name.startswith("retriever.slot_head.")}
    with pytest.raises(TrainingError, match=r"has rank 3, task.slot_rank asks for 4"):
        vote.build(task.model, settings.model_copy(update={"slot_rank": 4}), 0)
    assert (
        MPlusModel.from_pretrained(tmp_path / "second", **PLACED).fingerprint != fingerprint
    )  # memories of the first are refused


def test_what_other_chunks_tell_of_the_same_thing_is_right_where_they_are_in_the_step() -> None:
    held = bank()
    thing = Question("q", "a", (8, 12), True, "update", slot="x")
    held.questions[0] = (0, thing)
    held.slots = {"x": [(0, (8, 12)), (3, (0, 4)), (0, (12, 16))]}
    assert held.right(0) == [(0, 8, 12), (3, 0, 4), (0, 12, 16)]
    right, _ = PerLayerObjective.targets(held, batch([0], 1))
    assert right[0].nonzero()[:, 0].tolist() == [*range(8, 16), *range(3 * TOKENS, 3 * TOKENS + 4)]
    few = RetrievalBatch(0, torch.tensor([0, 1]), [0], [0])
    assert PerLayerObjective.targets(held, few)[0][0].nonzero()[:, 0].tolist() == [*range(8, 16)]
    finding = by_vote("contrastive")
    finding.retriever.window = 1
    assert finding.targets(held, batch([0, 1, 2], 1))[0][0].nonzero()[:, 0].tolist() == [2, 3, 12]


def test_a_head_is_refused_where_no_search_can_have_one(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="only a trained late-interaction search has"):
        vote.build(tiny_model(setup="shared"), vote.Settings(data=str(tmp_path), slot_rank=4), 0)
