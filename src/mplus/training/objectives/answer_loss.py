"""Loss of answers behind a memory. Knows a model and rows of keys and values, not how they were chosen.

Legend: R rows, T tokens of prompt and answer, A answer tokens of all rows, V vocabulary, P memory slots, L layers, H kv heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mplus.attach.hooks import Hooks
from mplus.attach.prefix_pass import Pair, PrefixPass
from mplus.model import MPlusModel

RowsOfLayer = Callable[[int], tuple[Tensor, Tensor]]

PAD = 2
IGNORED = -100


@dataclass(frozen=True)
class AnswerLoss:
    """Mean loss over answer tokens, whether each whole answer is right by the largest logits [R], tokens computed, answer tokens."""

    loss: Tensor
    exact: Tensor
    tokens: int
    targets: int


@dataclass(frozen=True)
class AnswerLogits:
    """Logits [A, V] at the answer tokens of R rows, the tokens that should come [A], the row of each [A], tokens computed."""

    logits: Tensor
    wanted: Tensor
    row_of: Tensor
    tokens: int
    rows: int

    def exact(self) -> Tensor:
        """Tell of each whole answer whether the largest logits give it [R]."""
        wrong = torch.zeros(self.rows, device=self.logits.device)
        return wrong.index_add_(0, self.row_of, (self.logits.argmax(-1) != self.wanted).float()) == 0


def by_length(prompts: list[list[int]], answers: list[list[int]], rows: int) -> list[list[int]]:
    """Rows in groups of about the same length, so that little is computed for padding."""
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def joined(parts: list[AnswerLoss], groups: list[list[int]]) -> AnswerLoss:
    """Groups of ``by_length`` put together again: the same mean over all answer tokens, rows in their first order."""
    total = sum(part.targets for part in parts)
    loss = torch.stack([part.loss * (part.targets / total) for part in parts]).sum()
    exact = torch.cat([part.exact for part in parts])
    back = torch.tensor([row for group in groups for row in group], device=exact.device).argsort()
    return AnswerLoss(loss, exact[back], sum(part.tokens for part in parts), total)


def padded(prompts: list[list[int]], answers: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and targets [R, T], padded on the right; only answers are targets."""
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), PAD)
    target, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for row, (both, answer) in enumerate(zip(rows, answers, strict=True)):
        ids[row, : len(both)] = torch.tensor(both)
        mask[row, : len(both)] = 1
        target[row, len(both) - len(answer) : len(both)] = torch.tensor(answer)
    return ids, mask, target


def answer_loss(
    model: MPlusModel, prompts: list[list[int]], answers: list[list[int]], memory: RowsOfLayer | None = None, slots: int = 0
) -> AnswerLoss:
    """Loss of `answers` to `prompts`, each row behind BOS and its memory, as a read of the model sees them.

    Args:
        memory: gives a layer's keys and values, [R, P, H, E] each, before rotation and without gradient; None: no memory, the
            bare prompt with the read adapter on.
        slots: P.
    """
    own = answer_logits(model, prompts, answers, memory, slots)
    return AnswerLoss(functional.cross_entropy(own.logits, own.wanted), own.exact(), own.tokens, len(own.wanted))


def answer_logits(
    model: MPlusModel,
    prompts: list[list[int]],
    answers: list[list[int]],
    memory: RowsOfLayer | None = None,
    slots: int = 0,
    *,
    untouched: bool = False,
) -> AnswerLogits:
    """Logits at the tokens of `answers`, row by row; see ``answer_loss``.

    Args:
        untouched: with no adapter on, without BOS of ours and without gradient, as the stock decoder gives them.
    """
    ids, mask, target = (part.to(model.device) for part in padded(prompts, answers))
    if untouched:
        with torch.no_grad(), model.untouched():
            states = model.parts.decoder.body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    else:
        states = read_states(model, ids, mask, memory, slots)
    predicts = torch.zeros_like(target, dtype=torch.bool)
    predicts[:, :-1] = target[:, 1:] != IGNORED
    with torch.set_grad_enabled(torch.is_grad_enabled() and not untouched):
        logits = model.parts.decoder.model.lm_head(states[predicts]).float()
    row_of = torch.arange(len(prompts), device=model.device)[:, None].expand_as(predicts)[predicts]
    return AnswerLogits(logits, target[:, 1:][predicts[:, :-1]], row_of, int(mask.sum()), len(prompts))


def text_loss(model: MPlusModel, ids: Tensor, behind: int, memory: RowsOfLayer, slots: int) -> Tensor:
    """Mean KL divergence, in nats, of the base's next token, which sees the whole
    chunk in plain context, from that of the model, which has the chunk's beginning in memory only.

    Args:
        ids: [R, T] chunks; behind: tokens of each that are the end of its memory, the rest is the prompt.
    """
    with torch.no_grad(), model.untouched() as base:
        sure = base(input_ids=ids.to(model.device), use_cache=False).logits[:, behind:-1].float().log_softmax(-1)
    prompt = ids[:, behind:].to(model.device)
    states = read_states(model, prompt, torch.ones_like(prompt), memory, slots)
    logits = model.parts.decoder.model.lm_head(states[:, :-1])
    return functional.kl_div(logits.float().log_softmax(-1), sure, log_target=True, reduction="none").sum(-1).mean()


def read_states(
    model: MPlusModel, ids: Tensor, mask: Tensor, memory: RowsOfLayer | None, slots: int, role: str = "read"
) -> Tensor:
    """Last hidden states [R, T, D] of right-padded prompts behind BOS and memory, with the adapter of `role` on."""
    model_parts = model.parts
    prefix_pass = PrefixPass(model_parts.decoder, [0 if memory is None else 1 + slots], mask, storing=False)

    def fill(layer: int, normed: Tensor) -> Pair | None:
        if memory is None:
            return None
        with torch.no_grad():
            bos = (part[None].expand(len(ids), -1, -1, -1) for part in bos_kv[layer])
            keys, values = (torch.cat([first, rows.to(first)], 1) for first, rows in zip(bos, memory(layer), strict=True))
            return prefix_pass.rotated(keys, values)

    with torch.no_grad(), model_parts.adapters.on(model_parts.adapters.named(model.geometry.read.memory_projection)):
        bos_kv = model_parts.project_bos(model_parts.decoder.depth)
    with model_parts.adapters.on(model_parts.adapters.named(role)), Hooks() as hooks:
        prefix_pass.install(hooks, fill)
        return prefix_pass.states(ids)
