"""Laws of distillation: a student that sees what its teacher sees has nothing to learn, and only the read adapter learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mplus import MPlusModel
from mplus.errors import InputError, TrainingError
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.bank.taught_bank import TaughtQuestion
from mplus.training.objectives.answer_loss import answer_logits
from mplus.training.objectives.distillation import TeacherTokens, divergence
from mplus.training.objectives.distilling import DistilTask, Settings
from mplus.training.objectives.teacher import Teacher
from mplus.training.sampling.block_view import BlockView
from tests.tiny import byte_tokenizer, text_model, tiny_decoder, tiny_geometry

SIZES: dict[str, Any] = {
    "new_tokens": 384,
    "chunk_tokens": 384,
    "stm_tokens": 768,
    "ltm_read_tokens": 64,
    "block_tokens": 16,
    "neighbour_blocks": 1,
    "min_write_tokens": 8,
}


def distilled(data: Path, *, seed: int = 5, model: MPlusModel | None = None, **changed: Any) -> DistilTask:
    fields: dict[str, Any] = {
        "data": str(data),
        "chunks": 12,
        "fresh_chunks": 4,
        "fresh_every": 1,
        "questions": 9,
        "per_chunk": 6,
        "top": 7,
        "passage_tokens": 64,
        "mix": {"instruction": 1, "conversation": 1, "prompt": 1, "memory": 3, "update": 2, "absent": 1},
        "documents": {"facts": 1, "chat": 1, "passage": 1, "changes": 1},
    }
    return DistilTask(model or reader(), Settings(**{**fields, **changed}), seed)


def reader() -> MPlusModel:
    """A tiny model with a trained search and a fresh read adapter, which changes nothing yet."""
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = "!"
    torch.manual_seed(2)
    return MPlusModel.from_base(
        tiny_decoder(vocabulary=256, positions=4096),
        geometry=tiny_geometry(**SIZES),
        tokenizer=tokenizer,
        read_lora={"r": 2, "lora_alpha": 4},
        key_width=6,
    )


def test_a_student_with_the_passage_in_its_prompt_has_no_divergence(data: Path) -> None:
    task = distilled(data)
    task.prepare()
    asked = [one for one in task.draw().asked if one.taught][:4]
    chunk = {id(one): chunk for chunk, questions in enumerate(task.bank.questions) for one in questions}
    prompts = [task.teacher.prompt(one, task.bank.ids[chunk[id(one)]].tolist()) for one in asked]
    own = answer_logits(task.model, prompts, [one.answer for one in asked])
    ids, logs = (torch.cat([one.taught[part] for one in asked]) for part in (0, 1))
    assert len(asked) == 4 and float(divergence(own.logits.detach(), TeacherTokens(ids, logs)).abs().max()) < 1e-4


def test_only_the_read_adapter_learns_and_a_question_is_taught_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = distilled(data)
    task.prepare()
    batch = task.draw()
    out = task(batch)
    out.loss.backward()
    with_gradient = {
        name for name, value in task.decoder.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert with_gradient and all(".lora_" in name and ".read." in name for name in with_gradient)
    assert out.samples == len(batch.asked) and {name for group in task.groups() for name, _ in group.parameters} >= with_gradient

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("mplus.training.objectives.teacher.answer_logits", refuse)
    task.teacher.teach(batch.asked, [task.bank.ids[chunk].tolist() for chunk in batch.chunks])


@pytest.mark.parametrize("taught", ["value", "sentence"])
def test_only_answers_of_the_named_styles_are_taught(data: Path, taught: str) -> None:
    task = distilled(data, taught=(taught,), questions=16, mix={"memory": 1, "instruction": 1})
    task.prepare()
    batch = task.draw()
    able = [one for one in batch.asked if one.is_taught]
    assert {one.is_value for one in able} == {True, False}
    assert [bool(one.taught) for one in able] == [one.is_value is (taught == "value") for one in able]


@pytest.mark.parametrize(("kind", "documents"), [("story", "story"), ("update", "changes"), ("memory", "facts")])
def test_what_is_current_stands_nearest_and_all_else_as_the_search_ranks_it(
    data: Path, monkeypatch: pytest.MonkeyPatch, kind: str, documents: str
) -> None:
    task = distilled(data, mix={kind: 1}, documents={documents: 1})
    task.prepare()
    ordered: list[int] = []

    def in_order(view: BlockView, chunk: int, per_chunk: int) -> BlockView:
        ordered.append(chunk)
        return view

    monkeypatch.setattr("mplus.training.objectives.distilling.in_order_of_birth", in_order)
    drawn = task._drawn(kind, 4)
    assert drawn
    for chunk, asked, scores in drawn:
        task._view(chunk, asked, scores, task._shape())
    assert ordered == ([] if kind == "memory" else [chunk for chunk, *_ in drawn])


def test_a_step_is_the_mean_over_questions_of_their_weighted_losses(data: Path) -> None:
    model = reader()
    weights = [(1.0, 0.0), (0.0, 1.0), (0.5, 2.0)]
    losses = []
    for cross_entropy, kl in weights:
        task = distilled(data, model=model, cross_entropy=cross_entropy, kl=kl)
        task.prepare()
        task.settings = task.settings.model_copy(update={"kl": 1.0})
        batch = task.draw()
        task.settings = task.settings.model_copy(update={"kl": kl})
        losses.append(float(task(batch).loss.detach()))
    assert losses[0] > 0 and losses[1] > 0
    assert losses[2] == pytest.approx(0.5 * losses[0] + 2 * losses[1], rel=1e-4)


def test_a_step_runs_in_the_precision_of_a_run(data: Path) -> None:
    task = distilled(data)
    task.prepare()
    batch = task.draw()
    assert any(one.taught for one in batch.asked)
    whole = float(task(batch).loss.detach())
    with torch.autocast("cpu", torch.bfloat16):
        assert float(task(batch).loss.detach()) == pytest.approx(whole, rel=0.05)


def test_a_run_goes_on_from_its_state_bit_for_bit(data: Path) -> None:
    first, second = distilled(data, seed=1), distilled(data, seed=2)
    first.prepare()
    first.draw()
    first.finish_step(0.1)
    second.load_state(first.state())
    for _ in range(2):
        one, two = first.draw(), second.draw()
        assert [q.prompt for q in one.asked] == [q.prompt for q in two.asked] and torch.equal(one.blocks, two.blocks)
        assert torch.equal(first(one).loss, second(two).loss)
        first.finish_step(0.2)
        second.finish_step(0.2)


def test_what_is_never_written_is_not_taught_and_values_end_by_cross_entropy(data: Path) -> None:
    task = distilled(data, mix={"absent": 1, "memory": 1})
    task.prepare()
    asked = task.draw().asked
    absent = [one for one in asked if one.kind == "absent"]
    assert absent and not any(one.taught or one.is_taught for one in absent)
    value = next(one for one in asked if one.is_value and one.taught and one.answer[-1] == task.model.tokenizer.eos_token_id)
    own = answer_logits(task.model, [value.prompt], [value.answer])
    _, far = task._losses(own, [value])
    ids, logs = value.taught
    by_hand = divergence(own.logits[:-1], TeacherTokens(ids[:-1], logs[:-1])).mean()
    torch.testing.assert_close(far[0], by_hand)


def test_a_bank_encodes_a_chunk_as_a_memory_writes_the_first_of_a_source() -> None:
    model = text_model(write_context="source")
    first, second = list(range(10, 42)), list(range(50, 82))
    encoder = ChunkEncoder(model, memory_format="kv")
    with torch.no_grad():
        passes = [next(iter(encoder.stream([chunk]))) for chunk in (first, second, second)]
    memory = model.new_memory(memory_format="kv")
    memory.write(torch.tensor(second), source="its own")
    written = memory.short_term.newest(32)
    for name in ("keys", "values"):
        torch.testing.assert_close(passes[2][name][0], written[name], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(passes[1][name][0], written[name], atol=1e-3)  # goes on behind the first chunk


def test_a_teacher_with_another_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other, student = text_model(), text_model()
    other.tokenizer.add_tokens(["<new>"])
    monkeypatch.setattr(MPlusModel, "from_base", lambda *_, **__: other)
    with pytest.raises(InputError, match="task.teacher big has another tokenizer than .*257 tokens against 256, 1 differ"):
        Teacher.opened("big", student)


def test_more_kept_tokens_than_the_tokenizer_has_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="task.top is 256, but the tokenizer has 256 tokens"):
        distilled(data, top=256)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cross_entropy": 0, "kl": 0}, "nothing would be learned"),
        ({"mix": {"text": 1}}, "mix asks nothing"),
        ({"mix": {"memory": -1}}, "mix needs shares of 0 or more"),
        ({"mix": {"summary": 1}, "documents": {"facts": 1}}, "documents has none of study"),
        ({"mix": {"update": 1}, "documents": {"facts": 1}}, "documents has none of changes"),
        ({"mix": {"memory": 1}, "documents": {"facts": 1, "corrections": 1}}, "corrections lie in several chunks"),
    ],
)
def test_settings_that_teach_nothing_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Settings(**change)


def test_a_model_without_an_adapter_or_a_search_is_refused(data: Path) -> None:
    with pytest.raises(TrainingError, match=r"task distil trains the read adapter; give model\.read_adapter"):
        distilled(data, model=text_model(positions=4096, **SIZES))


def test_self_study_without_a_file_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of it is named"):
        distilled(data, documents={"study": 1}, mix={"memory": 1})
    with pytest.raises(InputError, match=r"self-study file .* does not exist; make it with"):
        distilled(data, documents={"study": 1}, mix={"memory": 1}, self_study=str(tmp_path / "none.jsonl"))


def test_the_teacher_sees_text_around_the_place_and_continues_values(data: Path) -> None:
    task = distilled(data)
    chunk = task.model.tokenizer("x" * 100 + "Ann is 42." + "y" * 274, add_special_tokens=False)["input_ids"]
    value = TaughtQuestion("How old?", "chat", [1], [2], torch.zeros(0), (100, 110), "fact", True, [], True, True, True)
    passage = task.teacher.passage(value, chunk)
    assert "Ann is 42." in passage and len(passage) == 64
    text = task.model.tokenizer.decode(task.teacher.prompt(value, chunk))
    assert text.endswith("Question: How old?\nAnswer:") and passage in text
