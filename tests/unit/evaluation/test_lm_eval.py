"""The adapter for lm-evaluation-harness: its scores are those of a plain forward pass, or of a memory written by hand.

Legend: T tokens, V vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from mplus import MPlusModel
from mplus.errors import InputError
from mplus.evaluation.integrations import lm_eval as harness

pytestmark = pytest.mark.slow

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed: pip install 'mplus-llm[eval]'"
)
CHOICES = ["Porto", "Oslo", "Turin"]
DOCUMENTS = [
    {
        "text": "Ilse lives in Oslo. She has two cats and a boat. Her brother left for Turin.",
        "question": "Where is Ilse?",
        "gold": 1,
    },
    {
        "text": "Ilse lives in Oslo. She has two cats and a boat. Her brother left for Turin.",
        "question": "Where is he?",
        "gold": 2,
    },
    {"text": "The tram to Porto leaves at nine. Nobody takes it, as it rains all day long.", "question": "Where to?", "gold": 0},
]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {cache}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}\\n\\n{{{{question}}}}\\nAnswer:"
"""
PICKS = 'doc_to_target: gold\ndoc_to_choice: ["Porto", "Oslo", "Turin"]\nmetric_list: [{metric: acc}]\n'
SAYS = 'doc_to_target: "no"\ngeneration_kwargs: {until: ["a"], max_gen_toks: 12, do_sample: false}\nmetric_list: [{metric: exact_match}]\n'


class Request(NamedTuple):
    """What the harness hands over."""

    args: tuple[Any, ...]


class NoCache:
    """A hook that keeps nothing."""

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        """Forget it."""


def adapter(model: MPlusModel, **arguments: Any) -> harness.HarnessModel:
    """The adapter without the library."""
    made = harness.HarnessModel(model, **arguments)
    made.cache_hook = NoCache()
    return made


def context_of(document: dict[str, Any]) -> str:
    """What the task asks."""
    return f"{document['text']}\n\n{document['question']}\nAnswer:"


def ids_of(model: MPlusModel, text: str) -> list[int]:
    """Token ids."""
    return list(model.tokenizer(text)["input_ids"])


def plainly(model: MPlusModel, context: list[int], rest: list[int]) -> tuple[float, bool]:
    """One pass over everything, no memory, no cache."""
    with model.untouched() as hf_model, torch.no_grad():
        logits = hf_model(torch.tensor([context + rest]), use_cache=False).logits[0, len(context) - 1 : -1].float()
    told = logits.log_softmax(-1)[torch.arange(len(rest)), rest]
    return float(told.sum()), bool((logits.argmax(-1) == torch.tensor(rest)).all())


def greedily(model: MPlusModel, context: list[int], count: int) -> list[int]:
    """The likeliest tokens, each by a pass over everything."""
    ids = list(context)
    with model.untouched() as hf_model, torch.no_grad():
        for _ in range(count):
            ids.append(int(hf_model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(context) :]


def close(found: float, expected: float) -> bool:
    """Up to rounding."""
    return found == pytest.approx(expected, rel=1e-4, abs=1e-4)


# -- without the library -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "kept"),
    [
        ("a long text\n\nmore of it\n\nQuestion?\nAnswer:", "Question?\nAnswer:"),
        ("a text\n \n\nQuestion?\nAnswer:\n\n", "Question?\nAnswer:\n\n"),
        ("a text\nQuestion?", "Question?"),
        ("Question?", "Question?"),
        ("\n\nQuestion?", "\n\nQuestion?"),
        ("", ""),
    ],
)
def test_last_paragraph_stays_in_the_prompt(context: str, kept: str) -> None:
    assert context[harness.last_part(context) :] == kept


def test_prompt_scores_are_those_of_one_pass(text_model: MPlusModel) -> None:
    model = text_model
    pairs = [(context_of(one), f" {choice}") for one in DOCUMENTS for choice in CHOICES]
    found = adapter(model, batch_size=2).loglikelihood([Request(pair) for pair in pairs])
    for (context, rest), (score, greedy) in zip(pairs, found, strict=True):
        expected, certain = plainly(model, ids_of(model, context), ids_of(model, rest))
        assert close(score, expected) and greedy == certain


def test_what_greedy_decoding_says_is_greedy_and_nothing_else(text_model: MPlusModel) -> None:
    model, context = text_model, "Where?"
    said = model.tokenizer.decode(greedily(model, ids_of(model, context), 4))
    if ids_of(model, str(said)) != greedily(model, ids_of(model, context), 4):
        pytest.skip("the tiny model says bytes that are no text here")
    found = adapter(model).loglikelihood([Request((context, said)), Request((context, f"{said[:-1]}Q"))])
    assert [greedy for _, greedy in found] == [True, False]


def test_trailing_space_belongs_to_the_continuation(text_model: MPlusModel) -> None:
    found = adapter(text_model).loglikelihood([Request(("Where? ", "Oslo")), Request(("Where?", " Oslo"))])
    assert found[0] == found[1]


def test_empty_context_is_one_first_token(text_model: MPlusModel) -> None:
    [(found, _)] = adapter(text_model).loglikelihood([Request(("", "Oslo"))])
    assert close(found, plainly(text_model, [1], ids_of(text_model, "Oslo"))[0])


@pytest.mark.parametrize("batch", [1, 3])
def test_memory_scores_are_those_of_a_memory_written_by_hand(text_model: MPlusModel, batch: int) -> None:
    model = text_model
    pairs = [(context_of(one), f" {choice}") for one in DOCUMENTS for choice in CHOICES]
    found = adapter(model, context="memory", batch_size=batch).loglikelihood([Request(pair) for pair in pairs])
    for place, (_, rest) in enumerate(pairs):
        document = DOCUMENTS[place // len(CHOICES)]
        memory = model.new_memory()
        memory.write(f"{document['text']}\n\n")
        prompt = ids_of(model, f"{document['question']}\nAnswer:")
        expected = model.log_likelihood([prompt], [ids_of(model, rest)], memory)[0]
        assert close(found[place][0], float(expected.sum()))
        assert not close(found[place][0], plainly(model, ids_of(model, pairs[place][0]), ids_of(model, rest))[0])


def test_requests_with_the_same_text_share_a_memory(text_model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = [], adapter(text_model, context="memory")
    one_more = text_model.new_memory
    monkeypatch.setattr(text_model, "new_memory", lambda **changes: made.append(1) or one_more(**changes))  # type: ignore[func-returns-value]
    asked.loglikelihood([Request((context_of(one), choice)) for choice in CHOICES for one in DOCUMENTS])
    assert len(made) == 2  # three questions, two texts


def test_kept_tokens_stay_and_the_rest_is_written(text_model: MPlusModel) -> None:
    model, context = text_model, context_of(DOCUMENTS[0])
    [(found, _)] = adapter(model, context="memory", keep_tokens=11).loglikelihood([Request((context, " Oslo"))])
    memory = model.new_memory()
    memory.write(context[:-11])
    expected = model.log_likelihood([ids_of(model, context[-11:])], [ids_of(model, " Oslo")], memory)[0]
    assert close(found, float(expected.sum()))


def test_answers_stop_at_the_first_text_they_are_to_stop_at(text_model: MPlusModel) -> None:
    model, asked = text_model, adapter(text_model, batch_size=3)
    contexts = [context_of(one) for one in DOCUMENTS]
    full = [str(model.tokenizer.decode(greedily(model, ids_of(model, context), 12))) for context in contexts]
    settings: dict[str, Any] = {"until": [], "max_gen_toks": 12, "temperature": 0.0}
    assert asked.generate_until([Request((context, settings)) for context in contexts]) == full
    stop = full[0][5:7]
    settings = {"until": [stop, "never said"], "max_gen_toks": 12}
    found = asked.generate_until([Request((context, settings)) for context in contexts])
    assert found == [text.partition(stop)[0] for text in full] and len(found[0]) <= 5


def test_memory_answers_are_those_of_a_memory_written_by_hand(text_model: MPlusModel) -> None:
    model, document = text_model, DOCUMENTS[0]
    asked = adapter(model, context="memory")
    [found] = asked.generate_until([Request((context_of(document), {"until": "\0\0\0", "max_gen_toks": 8}))])
    memory = model.new_memory()
    memory.write(f"{document['text']}\n\n")
    assert found == model.generate(f"{document['question']}\nAnswer:", memory, max_new_tokens=8, do_sample=False)


def test_chat_asks_in_the_models_own_template(text_model: MPlusModel) -> None:
    model, document = text_model, DOCUMENTS[2]
    asked = adapter(model, context="memory", chat=True)
    [found] = asked.generate_until([Request((context_of(document), {"max_gen_toks": 8}))])
    memory = model.new_memory()
    memory.write(f"{document['text']}\n\n")
    message = [{"role": "user", "content": f"{document['question']}\nAnswer:"}]
    assert found == model.chat(message, memory=memory, max_new_tokens=8, do_sample=False)
    [(score, _)] = asked.loglikelihood([Request((context_of(document), " Oslo"))])
    prompt = ids_of(model, str(model.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)))
    assert close(score, float(model.log_likelihood([prompt], [ids_of(model, " Oslo")], memory)[0].sum()))


def test_whole_texts_are_scored_once_per_token(text_model: MPlusModel) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'mplus-llm[eval]'")
    model, text = text_model, context_of(DOCUMENTS[0])
    ids = ids_of(model, text)
    [found] = adapter(model).loglikelihood_rolling([Request((text,))])
    assert close(found, plainly(model, [1], ids)[0])
    [found] = adapter(model, max_length=41).loglikelihood_rolling([Request((text,))])
    ends = [*range(40, len(ids), 40), len(ids)]  # a window of 40; the last one keeps its size and scores what is left
    parts = [plainly(model, [1], ids[:40])[0]]
    parts += [plainly(model, ids[end - 41 : start], ids[start:end])[0] for start, end in pairwise(ends)]
    assert close(found, sum(parts))


def test_whole_texts_read_what_came_before_from_memory(text_model: MPlusModel) -> None:
    model, text = text_model, context_of(DOCUMENTS[0])
    ids, size = ids_of(model, text), model.geometry.sizes.chunk_tokens
    [found] = adapter(model, context="memory", keep_tokens=8).loglikelihood_rolling([Request((text,))])
    parts = [plainly(model, [1], ids[:size])[0]]
    memory, done = model.new_memory(), 0
    for start in range(size, len(ids), size):
        memory.write(ids[done : start - 8])
        done = start - 8
        parts.append(float(model.log_likelihood([ids[done:start]], [ids[start : start + size]], memory)[0].sum()))
    assert close(found, sum(parts))


def test_too_long_a_context_loses_its_beginning_or_reads_it_from_memory(text_model: MPlusModel) -> None:
    model, context = text_model, "x" * 700 + " Oslo?"
    cut = 700 + 6 - (512 - 3) + harness.SPARE_TOKENS + 3 - 3
    [(found, _)] = adapter(model).loglikelihood([Request((context, " no"))])
    assert close(found, plainly(model, ids_of(model, context[cut:]), ids_of(model, " no"))[0])
    asked = adapter(model, context="memory")
    written, prompt = asked._asked(context, 3)
    assert written + str(model.tokenizer.decode(prompt)) == context and len(written) > cut
    assert asked.loglikelihood([Request((context, " no"))])[0][0] < 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"context": "both"}, "context is 'both'"),
        ({"keep_tokens": 3}, "keep_tokens=3 has no meaning"),
        ({"context": "memory", "keep_tokens": 0}, "keep_tokens is 0"),
        ({"batch_size": "auto"}, "batch_size is 'auto'"),
        ({"max_length": -1}, "max_length is -1"),
    ],
)
def test_a_wrong_argument_is_named(text_model: MPlusModel, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        adapter(text_model, **arguments)


def test_a_missing_library_names_the_install_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as if it were not there
    for name in [name for name in sys.modules if name.startswith("lm_eval.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        InputError, match=r"pip install lm-eval \(extra 'eval' of mplus-llm; from a checkout: pip install -e '.\[eval\]'"
    ):
        harness.register.__wrapped__()
    assert harness.main(["--tasks", "any"]) == 2
    assert "pip install" in capsys.readouterr().err


# -- inside the library ------------------------------------------------------------------------------------------------


def evaluated(model: MPlusModel, folder: Path, **arguments: Any) -> dict[str, Any]:
    """Both tasks, run by the library on the tiny model; offline."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    data = folder / "questions.jsonl"
    data.write_text("".join(f"{json.dumps(one)}\n" for one in DOCUMENTS), encoding="utf-8")
    for name, kind, rest in (("picks", "multiple_choice", PICKS), ("says", "generate_until", SAYS)):
        told = TASK.format(name=f"tiny_{name}", data=data, cache=folder / "cache", kind=kind) + rest
        (folder / f"{name}.yaml").write_text(told, encoding="utf-8")
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=harness.register()(model, **arguments),
        tasks=["tiny_picks", "tiny_says"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    return found


@needs_lm_eval
def test_the_library_finds_the_model_by_name() -> None:
    from lm_eval.api.registry import get_model

    made = harness.register()
    assert get_model("mplus") is made and issubclass(made, harness.HarnessModel)


@needs_lm_eval
@pytest.mark.parametrize("context", harness.CONTEXTS)
def test_a_task_of_the_library_gives_the_scores_computed_by_hand(text_model: MPlusModel, tmp_path: Path, context: str) -> None:
    model = text_model
    found = evaluated(model, tmp_path, context=context)
    right = 0
    for document, sample in zip(DOCUMENTS, found["samples"]["tiny_picks"], strict=True):
        scores = []
        for choice in CHOICES:
            if context == "prompt":
                scores.append(plainly(model, ids_of(model, context_of(document)), ids_of(model, f" {choice}"))[0])
            else:
                memory = model.new_memory()
                memory.write(f"{document['text']}\n\n")
                prompt = ids_of(model, f"{document['question']}\nAnswer:")
                scores.append(float(model.log_likelihood([prompt], [ids_of(model, f" {choice}")], memory)[0].sum()))
        assert [one[0][0] for one in sample["resps"]] == pytest.approx(scores, rel=1e-4)
        right += scores.index(max(scores)) == document["gold"]
    assert found["results"]["tiny_picks"]["acc,none"] == pytest.approx(right / len(DOCUMENTS))
    requests = [Request((context_of(one), {"until": ["a"], "max_gen_toks": 12})) for one in DOCUMENTS]
    said = [sample["resps"][0][0] for sample in found["samples"]["tiny_says"]]
    assert said == adapter(model, context=context).generate_until(requests)
