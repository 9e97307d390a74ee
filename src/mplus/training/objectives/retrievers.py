"""Objectives of the two retrievers on a bank: losses and recall. Knows banks, not where they come from.

Legend: R questions, T tokens of a prompt, C chunks, n memory tokens of a chunk, m windows, M = C * n tokens, D width.

Both are judged by the same share: of the right tokens (those of the answer's place), how many a read of a sixteenth of all
tokens holds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.retrieval.read_plan import choose_blocks
from mplus.settings import Geometry
from mplus.training.bank.state_bank import StateBank
from mplus.training.objectives.losses import as_score, contrastive_loss, paper_loss
from mplus.training.objectives.slots import judged_windows, slot_loss
from mplus.training.objectives.task import ParameterGroup, StepOutput

Loss = Literal["contrastive", "paper"]

READ_SHARE = 16  # one token of so many is read
COVERED = 0.8  # share of a statement that a window must hold to be right, or as much as any window holds of it
NEVER = -1e4


@dataclass
class RetrievalBatch:
    """Questions of a bank, the chunks they are held against, and the layers that learn (places in V; late interaction: all)."""

    bank: int
    chunks: Tensor
    questions: list[int]
    layers: list[int]


class RetrieverObjective(Protocol):
    """A retriever that is trained on states of some layers."""

    @property
    def retriever(self) -> nn.Module: ...
    @property
    def layers(self) -> tuple[int, ...]:
        """Whose states a bank holds."""
        ...

    def groups(self) -> list[ParameterGroup]: ...
    def draw(self, randomness: random.Random) -> list[int]:
        """Layers of one step, as places in ``layers``."""
        ...

    def outcome(self, bank: StateBank, batch: RetrievalBatch) -> StepOutput: ...


class LateInteractionObjective:
    """Trains a few layers together, over windows of neighbouring blocks, as late interaction retrieves at inference.

    Windows that hold only a part of the right place are neither right nor wrong. With ``loss="contrastive"`` a window's score is
    that of inference, ``sum_t w_t max_j q_t . k_j``; with ``"paper"`` its chance is the weighted mean over the prompt's tokens of
    the sigmoid of the match, ``sum_t w_t sigmoid(max_j q_t . k_j)``, j over the window's tokens: the paper's mean over tokens
    with the vote's own weights, which sum to 1. What is found is always judged by the score of inference.

    Args:
        scale_rate: factor on the learning rate of the layers' weights.
    """

    def __init__(self, retriever: LateInteractionRetriever, geometry: Geometry, loss: Loss, scale_rate: float) -> None:
        self.retriever, self.geometry, self.loss, self.scale_rate = retriever, geometry, loss, scale_rate
        self.layers = retriever.layers

    def groups(self) -> list[ParameterGroup]:
        """The projectors and weights of tokens; the layers' weights; and the same-slot head, where there is one."""
        named = list(self.retriever.named_parameters())
        head = [(name, value) for name, value in named if name.startswith("slot_head.")]
        search = [(name, value) for name, value in named if name != "scale" and not name.startswith("slot_head.")]
        groups = [
            ParameterGroup("vote", search),
            ParameterGroup("scale", [(name, value) for name, value in named if name == "scale"], self.scale_rate),
        ]
        return [*groups, ParameterGroup("slot", head)] if head else groups

    def draw(self, randomness: random.Random) -> list[int]:
        """All of them; takes nothing from the random state."""
        return list(range(len(self.layers)))

    def outcome(self, bank: StateBank, batch: RetrievalBatch) -> StepOutput:
        """Loss and shares of one step."""
        mask = _mask(bank, batch)
        right, known = self.targets(bank, batch)
        with _projecting(bank):
            keys = self.retriever.keys([part[batch.chunks].flatten(0, 1) for part in bank.states])
            query, weight = self.retriever.queries([_prompts(part, batch, mask) for part in bank.prompts], mask)
        match = self.retriever.maxsim(query, keys, self.geometry.read.block_tokens)
        follows = torch.arange(match.shape[-1]) % self._blocks(bank) != self._blocks(bank) - 1
        right, known = right.to(match.device), known.to(match.device)
        with torch.autocast(match.device.type, enabled=False):  # float32, whatever the loop computes in
            if self.loss == "paper":
                loss = paper_loss(self.retriever.window_scores(match.float().sigmoid(), weight, follows), right, known)
                with torch.no_grad():
                    scores = self.retriever.window_scores(match, weight, follows).clamp(min=NEVER)
            else:
                scores = self.retriever.window_scores(match, weight, follows).clamp(min=NEVER)
                loss = contrastive_loss(scores, right, known)
        hits = right.gather(1, scores.masked_fill(~known, NEVER).argmax(1, keepdim=True)).squeeze(1)
        shares = {"recall": hits.float().cpu(), "found": self._found(scores.detach().cpu(), bank, batch)}
        if self.retriever.slot_head is None:
            return _outcome(loss, bank, batch, mask, shares)
        own, metrics = self._slots(bank, batch, query, weight, keys, scores, right, known)
        step = _outcome(loss + own, bank, batch, mask, shares)
        return replace(step, metrics={**step.metrics, **metrics})

    def _slots(
        self,
        bank: StateBank,
        batch: RetrievalBatch,
        query: Tensor,
        weight: Tensor,
        keys: Tensor,
        scores: Tensor,
        right: Tensor,
        known: Tensor,
    ) -> tuple[Tensor, dict[str, tuple[float, float]]]:
        """Loss of the same-slot head on questions about facts, and which shares of the same and of the others it takes for the same."""
        assert self.retriever.slot_head is not None
        facts = torch.tensor([bank.questions[number][1].is_fact for number in batch.questions], device=scores.device)
        judged = judged_windows(scores[facts], right[facts], known[facts])
        with torch.autocast(scores.device.type, enabled=False):
            loss, logits = slot_loss(
                self.retriever.slot_head,
                query[facts],
                weight[facts],
                keys,
                judged,
                block=self.geometry.read.block_tokens,
                window=self.retriever.window,
                tokens=bank.tokens,
            )
        taken = {"same slot": judged.same, "other slot": judged.other}
        return loss, {name: (float((logits > 0)[of].sum()), float(of.sum())) for name, of in taken.items()}

    def targets(self, bank: StateBank, batch: RetrievalBatch) -> tuple[Tensor, Tensor]:
        """[R, m] windows that hold the answer, and those that are either right or wrong."""
        block, per_chunk = self.geometry.read.block_tokens, self._blocks(bank)
        place = _places(batch)
        right = torch.zeros(len(batch.questions), len(place) * per_chunk, dtype=torch.bool)
        close = torch.zeros_like(right)
        starts = torch.arange(per_chunk) * block
        ends = (starts + self.retriever.window * block).clamp(max=per_chunk * block)
        for row, number in enumerate(batch.questions):
            for chunk, first, last in bank.right(number):
                if chunk not in place:
                    continue
                columns = slice(place[chunk] * per_chunk, (place[chunk] + 1) * per_chunk)
                held = _overlap(starts, ends, first, last)
                right[row, columns] |= held >= min(int(held.max()), COVERED * (last - first))
                close[row, columns] |= held > 0
            own = place[bank.questions[number][0]]
            close[row, own * per_chunk : (own + 1) * per_chunk] |= _overlap(starts, ends, *bank.unjudged(number)) > 0
        return right, right | ~close

    def _found(self, scores: Tensor, bank: StateBank, batch: RetrievalBatch) -> Tensor:
        """[R] share of the right tokens in what a read of the best blocks holds, with neighbours as at inference."""
        block, per_chunk, total = self.geometry.read.block_tokens, self._blocks(bank), scores.shape[1]
        number = torch.arange(total)
        ids = number + torch.div(number, per_chunk, rounding_mode="floor")  # a gap behind each chunk: no neighbours across
        budget, place = max(1, total // READ_SHARE), _places(batch)
        shares = []
        for row, asked in enumerate(batch.questions):
            read = torch.zeros(total, dtype=torch.bool)
            read[choose_blocks(scores[row], ids, budget, self.geometry.read.neighbour_blocks, self.retriever.window)] = True
            blocks = torch.arange(*bank.span(asked)) // block + place[bank.questions[asked][0]] * per_chunk
            shares.append(read[blocks].float().mean())
        return torch.stack(shares)

    def _blocks(self, bank: StateBank) -> int:
        return bank.tokens // self.geometry.read.block_tokens


class PerLayerObjective:
    """Trains every layer for itself, over single tokens (paper section 3.2); a few random layers learn in a step (RECIPE section 4).

    A token's chance is ``PerLayerRetriever.scores``: the mean over the prompt's tokens of ``sigmoid(q . k)``. The paper's loss takes
    it as it is, the contrastive one its logit. Right are the tokens of the answer's place; of a passage's chunk the others are
    neither right nor wrong. Loss and shares are means over the step's layers.

    Args:
        step_layers: how many; all where there are no more.
    """

    def __init__(self, retriever: PerLayerRetriever, loss: Loss, step_layers: int) -> None:
        self.retriever, self.loss, self.step_layers = retriever, loss, step_layers
        self.layers = tuple(range(len(retriever.key_proj)))

    def groups(self) -> list[ParameterGroup]:
        """All layers' projectors."""
        return [ParameterGroup("retriever", list(self.retriever.named_parameters()))]

    def draw(self, randomness: random.Random) -> list[int]:
        """As many as a step takes, ascending."""
        return sorted(randomness.sample(self.layers, min(self.step_layers, len(self.layers))))

    def outcome(self, bank: StateBank, batch: RetrievalBatch) -> StepOutput:
        """Loss and shares of one step."""
        mask = _mask(bank, batch)
        right, known = (part.to(mask.device) for part in self.targets(bank, batch))
        budget = max(1, right.shape[1] // READ_SHARE)
        losses, found = [], []
        for layer in batch.layers:
            with _projecting(bank):
                keys = self.retriever.keys(layer, bank.states[layer][batch.chunks].flatten(0, 1))
            with torch.autocast(mask.device.type, enabled=False):  # float32, whatever the loop computes in
                prompts = _prompts(bank.prompts[layer], batch, mask).to(next(self.retriever.parameters()).dtype)
                chance = self.retriever.scores(layer, prompts, mask, keys)
                if self.loss == "paper":
                    losses.append(paper_loss(chance, right, known))
                else:
                    losses.append(contrastive_loss(as_score(chance), right, known))
            best = chance.detach().topk(budget, dim=1).indices
            found.append(right.gather(1, best).sum(1) / right.sum(1))
        return _outcome(torch.stack(losses).mean(), bank, batch, mask, {"found": torch.stack(found).mean(0).cpu()})

    @staticmethod
    def targets(bank: StateBank, batch: RetrievalBatch) -> tuple[Tensor, Tensor]:
        """[R, M] tokens of the answer's place, and those that are either right or wrong."""
        place = _places(batch)
        right = torch.zeros(len(batch.questions), len(place) * bank.tokens, dtype=torch.bool)
        known = torch.ones_like(right)
        for row, number in enumerate(batch.questions):
            start = place[bank.questions[number][0]] * bank.tokens
            low, high = bank.unjudged(number)
            known[row, start + low : start + high] = False
            for chunk, first, last in bank.right(number):
                if chunk in place:
                    right[row, place[chunk] * bank.tokens + first : place[chunk] * bank.tokens + last] = True
        return right, known | right


def _overlap(starts: Tensor, ends: Tensor, first: int, last: int) -> Tensor:
    """[m] tokens that windows share with a span."""
    return (ends.clamp(max=last) - starts.clamp(min=first)).clamp(min=0)


def _places(batch: RetrievalBatch) -> dict[int, int]:
    """Number of a chunk in the bank to its place among the step's chunks."""
    return {int(chunk): number for number, chunk in enumerate(batch.chunks)}


def _mask(bank: StateBank, batch: RetrievalBatch) -> Tensor:
    """[R, T] of the step's questions, without the columns none of them needs."""
    mask = bank.mask[batch.questions]
    return mask[:, -int(mask.sum(1).max()) :]


def _prompts(part: Tensor, batch: RetrievalBatch, mask: Tensor) -> Tensor:
    """States [R, T, D] of the step's questions, of one layer's [Q, t, D]."""
    return part[batch.questions][:, -mask.shape[1] :]


def _projecting(bank: StateBank) -> torch.autocast:
    """Stored states are of the model's number type, projectors float32."""
    return torch.autocast(bank.states.device.type, torch.bfloat16, enabled=bank.states.dtype is torch.bfloat16)


def _outcome(loss: Tensor, bank: StateBank, batch: RetrievalBatch, mask: Tensor, shares: dict[str, Tensor]) -> StepOutput:
    """Shares [R] by name, for facts and for passages."""
    facts = torch.tensor([bank.questions[number][1].is_fact for number in batch.questions])
    metrics = {
        f"{name} {kind}": (float(share[rows].sum()), float(rows.sum()))
        for name, share in shares.items()
        for kind, rows in (("facts", facts), ("passages", ~facts))
    }
    tokens = mask.numel() + int(batch.chunks.shape[0]) * bank.tokens
    return StepOutput(loss, len(batch.questions), tokens, metrics)
