"""Selection of long-term tokens in training, and the retriever's own loss. Knows retrievers, not where text comes from.

Legend: B rows, T tokens, M candidates of a row, U columns all rows are scored against, D width, V searched layers, k chosen.

The choice is that of inference (``mplus.attach.query_pass``) over the candidates of a sample's view. ``random`` and ``recent`` stand in
its place for comparison, ``none`` reads no long-term memory at all.
"""

from __future__ import annotations

import random
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mplus.attach.query_pass import prompt_features
from mplus.model import MPlusModel
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.retrieval.read_plan import is_confident, plan_read
from mplus.training.bank.step_rows import StepRows
from mplus.training.objectives.losses import as_score, contrastive_loss, paper_loss
from mplus.training.sampling.memory_view import MemoryView


def searched_layers(model: MPlusModel) -> tuple[int, ...]:
    """Layers whose states the model's retriever searches with, ascending; () without a retriever."""
    retriever = model.parts.retriever
    return () if retriever is None else retriever.layers


LtmChoice = Literal["retriever", "random", "recent", "none"]
RetrieverLoss = Literal["paper", "contrastive", "none"]
RIGHT_FIRST = 1e6  # added to the score of right candidates that are put in


class Selection:
    """Long-term tokens of a step's rows.

    Args:
        views: B of them.
        ids, text: [B, T] left-padded ids, and True at the tokens that may be searched with: never those of an answer.
        choice: who chooses.
        put_in: B flags: the right tokens stand first whatever the search says, as long as it is not trained.
        seed: of random choices.

    Attributes:
        tokens: k of each row.
        short: per row the G short-term columns that are read at their place in time: those not found.
        behind: per row how many of these stand behind what was found; only with ``read_order="score"``.
        retrieved, retrievable: sums over rows (and layers) of right tokens chosen, and of those there was room for.
    """

    def __init__(
        self,
        model: MPlusModel,
        step_rows: StepRows,
        views: list[MemoryView],
        ids: Tensor,
        text: Tensor,
        *,
        choice: LtmChoice,
        put_in: list[bool],
        seed: int,
    ) -> None:
        self.model, self.step_rows, self.views, self.text = model, step_rows, views, text
        self.geometry, self.retriever = model.geometry, model.parts.retriever
        self.choice, self.put_in, self.seed = choice, put_in, seed
        self.states: dict[int, Tensor] = {}
        self.chosen: dict[int, list[Tensor]] = {}
        self.retrieved, self.retrievable, self.by_chance = 0.0, 0.0, 0.0
        reads = self.geometry.sizes.reads_ltm and choice != "none"
        budget = self.geometry.sizes.ltm_read_tokens if reads else 0
        self.tokens = [min(budget, view.candidates) for view in views]
        self.is_shared = isinstance(self.retriever, LateInteractionRetriever) and self.geometry.read.is_shared
        self.short = [view.short for view in views]
        self.behind = [0] * len(views)
        self.features: list[Tensor] = []
        if reads and self.is_shared:
            self.features = [part.detach() for part in prompt_features(model.parts, ids, text)]
            shared = [self._retrieve_shared(row) for row in range(len(views))]
            self.tokens = [part.shape[0] for part in shared]
            self.chosen = dict.fromkeys(range(model.parts.decoder.depth), shared)

    def choose(self, layer: int, normed: Tensor) -> list[Tensor]:
        """Columns [k] every row reads in one layer, in reading order; the same again when a layer is recomputed.

        Args:
            normed: [B, T, D] the rows' states behind the layer's input norm.
        """
        if isinstance(self.retriever, PerLayerRetriever) and layer not in self.states:
            self.states[layer] = normed.detach()
        if layer not in self.chosen:
            self.chosen[layer] = [self._retrieve_in_layer(layer, row, normed) for row in range(len(self.views))]
        return self.chosen[layer]

    def loss(self, kind: RetrieverLoss, wrong: list[Tensor], own: list[list[Tensor]], layers: int) -> Tensor | None:
        """The search's own loss over the right columns of every row and common wrong ones; call after the pass.

        Args:
            wrong: columns of common candidates, chunk by chunk; where the vote scores blocks, whole blocks.
            own: the same of the chunks each row asks about, of which only the columns in ``MemoryView.right`` count.
            layers: how many layers, drawn at random, take part where each finds for itself; 0: all.

        Returns:
            a scalar in float32, or None where there is nothing to learn.
        """
        chunks = [*wrong, *(chunk for chunks in own for chunk in chunks)]
        if kind == "none" or self.retriever is None or not wrong or len(chunks) == len(wrong):
            return None
        columns = torch.cat(chunks).unique()
        right = torch.stack([torch.isin(columns, view.right) for view in self.views])
        counted = right | torch.isin(columns, torch.cat(wrong))
        device = self.text.device.type
        with torch.autocast(device, enabled=False):
            if self.is_shared:
                begins = torch.isin(columns, torch.stack([chunk[0] for chunk in chunks if chunk.numel()]))
                return self._shared_loss(kind, columns, right, counted, begins)
            return self._layer_loss(kind, columns, right, counted, layers)

    # -- per layer -------------------------------------------------------------------------------------------------

    def _retrieve_in_layer(self, layer: int, row: int, normed: Tensor) -> Tensor:
        view, count = self.views[row], self.tokens[row]
        group = layer if len(view.long) > 1 else 0
        columns = view.long[group]
        if count == 0:
            return columns[:0]
        if self.choice == "recent":
            return columns[columns.shape[0] - count :]
        is_right = torch.isin(columns, view.right)
        if columns.shape[0] == count:
            best = torch.arange(count)
        else:
            best = (self._scores(layer, row, normed, columns, is_right)).topk(count).indices.sort().values
        self._note(is_right, best)
        return columns[best]

    def _scores(self, layer: int, row: int, normed: Tensor, columns: Tensor, is_right: Tensor) -> Tensor:
        if self.choice == "random":
            generator = torch.Generator().manual_seed(hash((self.seed, layer, row)) % 2**63)
            scores = torch.rand(columns.shape[0], generator=generator)
        else:
            assert isinstance(self.retriever, PerLayerRetriever)
            with torch.no_grad(), torch.autocast(normed.device.type, enabled=False):
                kind = next(self.retriever.parameters()).dtype
                keys = self.retriever.keys(layer, self.step_rows.states(layer, columns).to(kind))
                scores = self.retriever.scores(layer, normed[row : row + 1].to(kind), self.text[row : row + 1], keys)[0].cpu()
        return scores + RIGHT_FIRST * is_right if self.put_in[row] else scores

    def _layer_loss(self, kind: RetrieverLoss, columns: Tensor, right: Tensor, counted: Tensor, layers: int) -> Tensor | None:
        assert isinstance(self.retriever, PerLayerRetriever)
        every = sorted(self.states)
        drawn = every if not 0 < layers < len(every) else sorted(random.Random(self.seed).sample(every, layers))
        right, counted = right.to(self.text.device), counted.to(self.text.device)
        losses = []
        for layer in drawn:
            keys = self.retriever.keys(layer, self.step_rows.states(layer, columns).to(self._kind()))
            chance = self.retriever.scores(layer, self.states[layer].to(self._kind()), self.text, keys)
            losses.append(
                paper_loss(chance, right, counted) if kind == "paper" else contrastive_loss(as_score(chance), right, counted)
            )
        return torch.stack(losses).mean() if losses else None

    # -- shared by all layers -------------------------------------------------------------------------------------------

    def _retrieve_shared(self, row: int) -> Tensor:
        """Columns one row reads in all layers; with ``read_order="score"`` short-term memory is searched with the rest."""
        assert isinstance(self.retriever, LateInteractionRetriever)
        geometry, view, block = self.geometry, self.views[row], self.geometry.read.block_tokens
        columns, births = view.long[0], view.long_births[0]
        by_score = geometry.read.beside_prompt is not None
        if by_score:
            births, order = torch.cat([births, view.short_births[0]]).sort()
            columns = torch.cat([columns, view.short[0]])[order]
        if not columns.numel():
            return columns
        positions = torch.div(births[::block], block, rounding_mode="floor")
        right = torch.isin(columns, view.right)
        right_blocks = functional.pad(right, (0, -right.shape[0] % block)).view(-1, block).any(1)
        scores = self._block_scores(row, columns, positions)
        rule = self.retriever.rule(geometry, recency_tail=view.recent(geometry))
        confident = is_confident(scores, rule)
        if self.put_in[row]:
            scores = scores + RIGHT_FIRST * right_blocks
        short = view.short_births[0] if by_score else view.short_births[0][:0]
        is_short = torch.isin(positions, torch.div(short, block, rounding_mode="floor"))
        plan = plan_read(scores, positions, is_short, rule, confident=confident)
        searched = torch.ones_like(is_short)
        searched[plan.recent] = False
        self._note(right_blocks, plan.retrieved, searched)
        found = columns[self._columns(plan.retrieved, columns.shape[0])]
        if by_score:
            self.behind[row] = self._columns(plan.recent, columns.shape[0]).shape[0]
            self.short[row] = [view.short[0][~torch.isin(view.short[0], found)]]
        return found

    def _columns(self, blocks: Tensor, total: int) -> Tensor:
        """Places of the tokens of blocks [k] among `total` in the order of the text; the last block may be short."""
        block = self.geometry.read.block_tokens
        places = (blocks[:, None] * block + torch.arange(block)).flatten()
        return places[places < total]

    def _block_scores(self, row: int, columns: Tensor, ids: Tensor) -> Tensor:
        assert isinstance(self.retriever, LateInteractionRetriever)
        total = ids.shape[0]
        if self.choice == "recent":
            return torch.arange(total, dtype=torch.float32)
        if self.choice == "random":
            return torch.rand(total, generator=torch.Generator().manual_seed(hash((self.seed, row)) % 2**63))
        here, kind = slice(row, row + 1), self._kind()
        with torch.no_grad(), torch.autocast(self.text.device.type, enabled=False):
            query, weight = self.retriever.queries([part[here].to(kind) for part in self.features], self.text[here])
            keys = self._shared_keys(columns)
            return self.retriever.block_scores(query, weight, keys, self.geometry.read.block_tokens, _follows(ids))[0].cpu()

    def _shared_loss(self, kind: RetrieverLoss, columns: Tensor, right: Tensor, counted: Tensor, begins: Tensor) -> Tensor:
        """Over windows of blocks as inference scores them; one is right if any of its blocks is."""
        assert isinstance(self.retriever, LateInteractionRetriever)
        block = self.geometry.read.block_tokens
        follows = functional.pad(~begins[::block][1:], (0, 1))
        query, weight = self.retriever.queries([part.to(self._kind()) for part in self.features], self.text)
        match = self.retriever.maxsim(query, self._shared_keys(columns), block)
        parts = [part.view(len(self.views), -1, block).any(2) for part in (right, counted)]
        for step in range(1, self.retriever.window):
            reach = torch.stack(
                [functional.pad(follows, (0, step))[start : start + follows.shape[0]] for start in range(step)]
            ).all(0)
            parts = [part | (functional.pad(part, (0, step))[:, step:] & reach) for part in parts]
        right, counted = (part.to(match.device) for part in parts)
        if kind == "paper":  # the weighted mean over tokens of each one's sigmoid, as in ``objectives.retrievers``
            return paper_loss(self.retriever.window_scores(match.float().sigmoid(), weight, follows), right, counted)
        return contrastive_loss(self.retriever.window_scores(match, weight, follows), right, counted)

    def _shared_keys(self, columns: Tensor) -> Tensor:
        assert isinstance(self.retriever, LateInteractionRetriever)
        return self.retriever.keys(
            [self.step_rows.states(place, columns).to(self._kind()) for place in range(len(self.retriever.layers))]
        )

    def _kind(self) -> torch.dtype:
        """Number type of the search's weights: float32 while they are trained."""
        assert self.retriever is not None
        held = next((value for value in (*self.retriever.parameters(), *self.retriever.buffers())), None)
        return torch.float32 if held is None else held.dtype

    def _note(self, is_right: Tensor, chosen: Tensor, searched: Tensor | None = None) -> None:
        """Count the right ones retrieved (recall) of those that were searched, and what a blind choice would retrieve."""
        total = is_right if searched is None else is_right[searched]
        room = min(int(total.sum()), chosen.shape[0])
        if room:
            self.retrieved += float(is_right[chosen].sum())
            self.retrievable += room
            self.by_chance += room * chosen.shape[0] / total.shape[0]


def _follows(ids: Tensor) -> Tensor:
    """[m] whether the next block is the next one of the text."""
    return functional.pad(ids.diff() == 1, (0, 1))
