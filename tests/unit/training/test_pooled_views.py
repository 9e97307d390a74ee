"""Laws of training at several ratios: one bank of text tokens serves all, and a view of it is what a memory of that ratio reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mplus import Memory
from mplus.errors import TrainingError
from mplus.retrieval import block_scores
from mplus.retrieval.blocks import BlockTable
from mplus.training.objectives import registry
from mplus.training.objectives.answer_loss import answer_logits
from mplus.training.objectives.distilling import DistilTask, Settings
from mplus.training.objectives.reading import ReadTask
from mplus.training.objectives.reading import Settings as ReadSettings
from mplus.training.run.recipe_file import read_recipe, write_recipe
from tests.tiny import text_model, tiny_geometry
from tests.unit.training.test_distilling import SIZES, distilled, reader

MIX: dict[str, Any] = {"mix": {"memory": 1}, "documents": {"facts": 1}, "kl": 0.0}


def pooled(data: Path, ratios: dict[int, float], **changed: Any) -> DistilTask:
    return distilled(data, ratios=ratios, **{**MIX, **changed})


def memory_of(task: DistilTask, ratio: int, chunks: list[int]) -> Memory:
    """A memory of that ratio which has read chunks of the bank as one source, all of it short-term."""
    memory = task.model.new_memory(tokens_per_row=ratio, ltm_capacity=4000)
    for chunk in chunks:
        memory.write(task.bank.ids[chunk], source="its own")
    return memory


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_a_view_holds_what_a_memory_of_its_ratio_holds(data: Path, ratio: int) -> None:
    task = pooled(data, {ratio: 1.0}, chunks=16)
    task.bank.add_chunks(task.generator.make(4))
    task.bank.add_chunks(task.generator.make(4))  # these go on behind the four
    grid, per_chunk = task.grids[ratio], task.grids[ratio].per_chunk
    blocks = [chunk * per_chunk + place for chunk in (1, 5) for place in range(per_chunk)]
    of_layer, slots = task._memory(torch.tensor([blocks]), grid)
    memory = memory_of(task, ratio, [1, 5])
    held = memory.short_term.newest(slots)
    assert slots == len(memory.short_term) == 2 * 384 // ratio
    for layer in range(2):
        for rows, name in zip(of_layer(layer), ("keys", "values"), strict=True):
            torch.testing.assert_close(rows[0], held[name][layer], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ratio", [2, 3])
def test_a_view_is_searched_and_read_as_a_memory_of_its_ratio_is(data: Path, ratio: int) -> None:
    task = pooled(data, {ratio: 1.0})
    task.prepare()
    chunk = next(number for number, questions in enumerate(task.bank.questions) if questions)
    one, grid = task.bank.questions[chunk][0], task.grids[ratio]
    memory, first = memory_of(task, ratio, [chunk]), chunk * grid.per_chunk

    scores = task.bank.scores([one], grid.is_contiguous, grid.block)[0, first : first + grid.per_chunk]
    features, text = list(one.states[:, None]), torch.ones(1, one.states.shape[1], dtype=torch.bool)
    table = BlockTable.of(memory, with_short_term=True)
    torch.testing.assert_close(
        scores, block_scores.of_all(task.retriever, memory, table, features, text)[0], atol=1e-4, rtol=1e-4
    )

    blocks = torch.arange(first, first + grid.per_chunk)[None]
    own = answer_logits(task.model, [one.prompt], [one.answer], *task._memory(blocks, grid))
    trained = own.logits.log_softmax(-1).gather(1, own.wanted[:, None]).sum()
    read = task.model.log_likelihood([one.prompt], [one.answer], memory=memory)[0].sum()
    assert float(trained.detach()) == pytest.approx(float(read), abs=1e-3)


def test_the_right_blocks_of_a_ratio_hold_the_answer(data: Path) -> None:
    task = pooled(data, {1: 1.0, 3: 1.0})
    task.prepare()
    for ratio, grid in task.grids.items():
        task.grid = grid
        for chunk, questions in enumerate(task.bank.questions):
            for one in questions:
                columns = grid.columns(torch.tensor([task._right(chunk, one)]))[0] - chunk * task.tokens
                assert {*range(*one.span)} <= set(columns.tolist())
                assert len(columns) <= len(range(*one.span)) + 2 * 16 * ratio


def test_steps_of_every_ratio_train_the_reader_and_go_on_from_a_state(data: Path) -> None:
    ratios = {1: 1.0, 2: 1.0, 3: 1.0}
    first, second = (pooled(data, ratios, mix={"memory": 2, "text": 1}, questions=2) for _ in range(2))
    first.prepare()
    second.load_state(first.state())
    seen: dict[int, int] = {}
    while len(seen) < 3:
        one, two = first.draw(), second.draw()
        assert (one.ratio, one.chunks) == (two.ratio, two.chunks) and torch.equal(one.blocks, two.blocks)
        if one.ratio not in seen:
            out = first(one)
            out.loss.backward()
            assert torch.equal(out.loss, second(two).loss)
            if one.asked:
                assert f"exact at {one.ratio}:1" in out.metrics
        seen[one.ratio] = one.blocks.shape[1]
        first.finish_step(0.1)
        second.finish_step(0.1)
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for _, value in first.groups()[0].parameters)


def test_task_read_draws_ratios_too(data: Path) -> None:
    settings = ReadSettings(data=str(data), chunks=12, fresh_chunks=4, questions=2, per_chunk=2, ratios={2: 1.0})
    task = ReadTask(reader(), settings, 5)
    task.prepare()
    batch = task.draw()
    assert batch.ratio == 2 and task(batch).loss.isfinite()


@pytest.mark.parametrize(
    ("ratios", "complaint"),
    [
        ({5: 1.0}, r"task.ratios has 5: geometry: chunk_tokens \(384\) must be a multiple of tokens_per_row \(5\)"),
        ({4: 1.0}, "task.ratios has 4, at which 256 text tokens leave short-term memory together, but a chunk has 384"),
    ],
)
def test_a_ratio_that_does_not_fit_the_chunks_is_refused(data: Path, ratios: dict[int, float], complaint: str) -> None:
    with pytest.raises(TrainingError, match=complaint):
        pooled(data, ratios)


@pytest.mark.parametrize("ratios", [{}, {0: 1.0}, {2: -1.0}, {2: 0.0}])
def test_ratios_without_a_share_are_refused(ratios: dict[int, float]) -> None:
    with pytest.raises(ValidationError, match="needs shares of 0 or more, one above 0, of 1 or more tokens"):
        Settings(ratios=ratios)


def test_the_ratios_of_a_recipe_are_kept_with_its_run(tmp_path: Path) -> None:
    recipe = read_recipe(Path(__file__).parents[3] / "recipes" / "smollm2-135m" / "pooled.yaml")
    assert isinstance(recipe.task.settings, Settings)
    assert recipe.task.settings.ratios == {1: 0.4, 2: 0.3, 4: 0.3}
    (tmp_path / "kept.yaml").write_text(write_recipe(recipe.resolved()))
    assert read_recipe(tmp_path / "kept.yaml") == recipe


@pytest.mark.parametrize("kind", ["vote", "language"])
def test_tasks_that_know_one_token_a_row_are_refused_where_rows_are_pooled(kind: str) -> None:
    model = text_model(tokens_per_row=2, new_tokens=16)
    with pytest.raises(TrainingError, match=f"task {kind} trains with one text token for each memory token, but .* is 2"):
        registry.build(kind, model, None, 0)


def test_a_pooled_model_trains_at_its_own_ratio(data: Path) -> None:
    model = reader()
    model.checkpoint.geometry = tiny_geometry(**{**SIZES, "new_tokens": 192, "tokens_per_row": 2})
    assert list(distilled(data, model=model, **MIX).grids) == [2]
