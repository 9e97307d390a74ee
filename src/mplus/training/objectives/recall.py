"""Task ``recall``: the paper's scheme on facts at any age, as whole tensors. Knows memory's rules, nothing of text files.

A step writes B chunks with gradient and asks about every fact in them as if it had been written any number of writes ago: its rows
stand in short-term memory, in long-term memory or in both as random drops would have it, differently in every layer
(``sampling.drop_table``); the other chunks, of this step and of a bank of older ones, are the rest of memory. Every layer retrieves its
own K0 rows with the projectors that are trained beside it.

Legend: B chunks, R questions of a step, T tokens, L layers, C chunks of bank and step, K rows of a chunk, M = C * K rows, P prefix slots,
D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from mplus.attach.hooks import Hooks
from mplus.attach.prefix_pass import Pair, PrefixPass
from mplus.corpus.pair_facts import FACT_WORDS, VALUE_AT, VOCABULARY
from mplus.errors import GeometryError, InputError
from mplus.model import MPlusModel
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.data.pair_chunks import PairChunkGenerator, PairChunks
from mplus.training.objectives.losses import as_score, contrastive_loss, paper_loss
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task
from mplus.training.objectives.trainable import Part, TrainableParts
from mplus.training.sampling.drop_table import DropTable
from mplus.training.sampling.recall_view import RecallView, views_of

Kind = Literal["copy", "context", "recite", "young", "aged"]
CONTEXT_CHUNKS = 8


class Settings(BaseModel):
    """Settings of task kind `recall`: kinds of steps, ages, trained parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: dict[Kind, float] = Field(
        {"aged": 0.85, "young": 0.1, "recite": 0.05},
        description="ratios; copy: repeat random tokens in plain context; context: facts in plain context; recite: go on with a piece of a chunk; young: a memory of few "
        "writes; aged: any age up to `longest_age`",
    )
    warmup_share: float = Field(0.0, ge=0, lt=1, description="share of the run at its beginning in which every step is `copy`")
    batch: int = Field(32, ge=2, description="chunks written in a step")
    facts: int = Field(2, ge=1, description="facts of a chunk, each of which is asked")
    longest_age: int = Field(16, ge=0, description="most writes between a fact and its question")
    grow_ages: float = Field(0.0, ge=0, le=1, description="share of the run over which the longest age grows from 0")
    bank_chunks: int = Field(128, ge=1, description="older chunks kept as the rest of memory")
    recite_tokens: int = Field(12, ge=4, description="recite: length of the piece")
    copy_tokens: int = Field(16, ge=4, description="copy: length of what is repeated, twice")
    train: tuple[Part, ...] = Field(("base", "bos", "position", "retriever"), description="what is trained, of what the model has")
    ltm_choice: Literal["retriever", "none"] = Field("retriever", description="none: long-term memory is not read (stages 1 and 2)")
    retriever_loss: Literal["paper", "contrastive"] = Field("paper", description="as in task language")
    retriever_weight: float = Field(1.0, ge=0)
    retriever_rate: float = Field(2.0, gt=0, description="learning rate of the search, times the recipe's")


class RecallTask(Task):
    """Trains writing, reading and retrieval on facts."""

    def __init__(self, model: MPlusModel, settings: Settings, seed: int) -> None:
        super().__init__()
        self.model, self.settings = model, settings
        self._check()
        sizes, depth = model.geometry.sizes, model.parts.decoder.depth
        self.kinds: dict[Kind, float] = {kind: share for kind, share in settings.kinds.items() if share > 0}
        lengths = tuple(sorted({max(sizes.new_tokens, sizes.chunk_tokens - less) for less in (0, 1, 3, 6)}))
        self.chunks = PairChunkGenerator(lengths, settings.facts, seed)
        self.trained = TrainableParts(model, settings.train)
        self.decoder: nn.Module = model.parts.decoder.model
        self.encoder = ChunkEncoder(model, memory_format="hidden")
        self.drops = DropTable(model.geometry, depth, seed)
        if self.drops.writes >= settings.bank_chunks + settings.batch:
            raise InputError(
                f"short-term memory holds tokens of {self.drops.writes} writes, bank_chunks ({settings.bank_chunks}) and batch "
                f"({settings.batch}) are fewer together; raise task.bank_chunks"
            )
        self.generator = torch.Generator().manual_seed(seed)
        self.bank = torch.zeros(depth, settings.bank_chunks * sizes.new_tokens, model.parts.decoder.width, device=model.device)
        self.retrieves = sizes.reads_ltm and settings.ltm_choice == "retriever"
        self.newest: Tensor | None = None  # [B, L, K, D] of the step before: what the next chunks follow
        self.next, self.progress = 0, 0.0

    # -- the interface of a task -------------------------------------------------------------------------------------

    def groups(self) -> list[ParameterGroup]:
        return self.trained.groups(self.settings.retriever_rate)

    def prepare(self) -> None:
        with self.trained.in_place(), torch.no_grad():
            for _ in range(-(-self.settings.bank_chunks // self.settings.batch)):
                self._keep(self._written(self.chunks.draw(self.settings.batch, self.generator)))

    def draw(self) -> tuple[Kind, PairChunks]:
        chunks = self.chunks.draw(self.settings.batch, self.generator)
        if self.progress < self.settings.warmup_share:
            return "copy", chunks
        at = torch.multinomial(torch.tensor(list(self.kinds.values())), 1, generator=self.generator)
        return list(self.kinds)[int(at)], chunks

    def shard(self, batch: tuple[Kind, PairChunks], process: int, processes: int) -> tuple[Kind, PairChunks]:
        if processes > 1:
            raise InputError("task `recall` trains a model of a few million numbers and runs in one process; start it with one")
        return batch

    def forward(self, batch: tuple[Kind, PairChunks]) -> StepOutput:
        kind, chunks = batch
        with self.trained.in_place():
            if kind in ("copy", "context"):
                return self._copy() if kind == "copy" else self._in_context(chunks)
            hidden = self._written(chunks)
            outcome = self._recite(chunks, hidden) if kind == "recite" else self._asked(kind, chunks, hidden)
            self._keep(hidden.detach())
        return outcome

    def finish_step(self, progress: float) -> None:
        self.progress = progress

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.generator.get_state(),
            "drops": self.drops.state(),
            "bank": self.bank,
            "newest": self.newest,
            "next": self.next,
            "progress": self.progress,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.drops.load_state(state["drops"])
        self.bank.copy_(state["bank"])
        self.newest = None if state["newest"] is None else state["newest"].to(self.model.device)
        self.next, self.progress = int(state["next"]), float(state["progress"])

    def save(self, directory: Path) -> None:
        self.trained.put_back()
        self.model.save_pretrained(directory, include_base="base" in self.settings.train)

    # -- writing -----------------------------------------------------------------------------------------------------

    def _written(self, chunks: PairChunks) -> Tensor:
        """Rows [B, L, K, D] of chunks; each follows a chunk of the step before, as in a stream."""
        before = None if self.newest is None else {"hidden": self.newest}
        rows = self.encoder.encode(chunks.ids.to(self.model.device), before, grad=torch.is_grad_enabled())
        return rows["hidden"]

    def _keep(self, hidden: Tensor) -> None:
        """Put rows in the bank, in place of the oldest."""
        self.newest = hidden
        rows = hidden.transpose(0, 1).flatten(1, 2)  # [L, B * K, D]
        room = self.bank.shape[1]
        at = (torch.arange(rows.shape[1]) + self.next) % room
        self.bank[:, at] = rows
        self.next = (self.next + rows.shape[1]) % room

    # -- steps -------------------------------------------------------------------------------------------------------

    def _copy(self) -> StepOutput:
        """Induction in plain context: some random tokens, then others twice over; loss on those that were there before."""
        length, rows = self.settings.copy_tokens, self.settings.batch
        shift = int(torch.randint(1, length, (), generator=self.generator))
        ids = torch.randint(2, self.model.vocabulary, (rows, length + shift), generator=self.generator)
        ids = torch.cat([ids, ids[:, -length:], ids[:, -length:]], 1).to(self.model.device)
        first = shift + length
        states = self.model.parts.decoder.body(input_ids=ids, use_cache=False).last_hidden_state
        logits = self.decoder.lm_head(states[:, first:-1])
        return self._outcome("copy", logits, ids[:, first + 1 :], ids.numel())

    def _in_context(self, chunks: PairChunks) -> StepOutput:
        """Facts of some chunks in plain context, then the same facts again in another order; loss on their values."""
        together = min(CONTEXT_CHUNKS, len(chunks.ids))
        rows = len(chunks.ids) // together
        text = chunks.ids[: rows * together].reshape(rows, -1)
        facts = torch.cat([chunks.questions, chunks.answers], 2)[: rows * together].reshape(rows, -1, FACT_WORDS)
        order = torch.rand(facts.shape[:2], generator=self.generator).argsort(1)
        asked = facts.gather(1, order[:, :, None].expand_as(facts))
        ids = torch.cat([text, asked.flatten(1)], 1).to(self.model.device)
        states = self.model.parts.decoder.body(input_ids=ids, use_cache=False).last_hidden_state
        before = torch.arange(asked.shape[1], device=ids.device) * FACT_WORDS + text.shape[1] + VALUE_AT - 1
        logits = self.decoder.lm_head(states[:, before])
        return self._outcome("context", logits, ids[:, before + 1], ids.numel())

    def _recite(self, chunks: PairChunks, hidden: Tensor) -> StepOutput:
        """Go on with a piece of a chunk of a memory of few writes."""
        length, tokens = self.settings.recite_tokens, chunks.ids.shape[1]
        first = torch.randint(0, tokens - length, (len(chunks.ids), 1), generator=self.generator)
        ids = chunks.ids.gather(1, first + torch.arange(length)).to(self.model.device)
        view = self._view("young", torch.arange(len(ids)))
        states, _ = self._read(ids, ids.shape[1], view, hidden)
        logits = self.decoder.lm_head(states[:, 2:-1])
        return self._outcome("recite", logits, ids[:, 3:], ids.numel() + chunks.ids.numel())

    def _asked(self, kind: Kind, chunks: PairChunks, hidden: Tensor) -> StepOutput:
        """Ask every fact."""
        questions, answers = (part.flatten(0, 1).to(self.model.device) for part in (chunks.questions, chunks.answers))
        ids = torch.cat([questions, answers[:, :1]], 1)
        view = self._view(kind, torch.arange(len(ids)) // self.settings.facts)
        searched = questions.shape[1]
        states, search = self._read(ids, searched, view, hidden)
        logits = self.decoder.lm_head(states[:, searched - 1 :])
        outcome = self._outcome(kind, logits, answers, ids.numel() + chunks.ids.numel())
        if search.losses:
            learned = torch.stack(search.losses).mean()
            outcome.loss = outcome.loss + self.settings.retriever_weight * learned
            outcome.metrics["retriever loss"] = (float(learned.detach()), 1.0)
            outcome.metrics["found"] = (search.found, max(1.0, search.findable))
        return outcome

    def _outcome(self, kind: Kind, logits: Tensor, targets: Tensor, tokens: int) -> StepOutput:
        loss = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        right = (logits[:, 0] if kind in ("young", "aged") else logits).argmax(-1)
        wanted = targets[:, 0] if kind in ("young", "aged") else targets
        metrics = {
            f"loss {kind}": (float(loss.detach()), 1.0),
            f"right {kind}": (float((right == wanted).sum()), float(wanted.numel())),
        }
        return StepOutput(loss, len(targets), tokens, metrics)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _view(self, kind: Kind, own: Tensor) -> RecallView:
        """What each question's memory holds; `own` [R] is the chunk of this step that it asks about."""
        settings, sizes = self.settings, self.model.geometry.sizes
        grown = min(1.0, self.progress / settings.grow_ages) if settings.grow_ages else 1.0
        total = settings.bank_chunks + settings.batch
        longest = round(settings.longest_age * grown)
        if kind == "young":
            writes = int(torch.randint(1, sizes.stm_tokens // sizes.new_tokens + 1, (), generator=self.generator))
            births = self.drops.without_drops(writes, len(own))
            longest = writes - 1
        else:
            births = self.drops.draw(len(own), self.generator)
        found = sizes.ltm_read_tokens if self.retrieves and kind == "aged" else 0
        return views_of(births, own + settings.bank_chunks, total, longest, found, sizes.new_tokens, self.generator)

    def _read(self, ids: Tensor, searched: int, view: RecallView, hidden: Tensor) -> tuple[Tensor, _Search]:
        """Last states [R, T, D] of texts behind their memories."""
        model = self.model
        live = hidden.transpose(0, 1).flatten(1, 2)
        table = torch.cat([self.bank, live], 1)  # [L, M, D]
        search = _Search(model, view.to(model.device), searched, self.settings.retriever_loss)
        prefix = PrefixPass(model.parts.decoder, [1 + view.tokens], torch.ones_like(ids, dtype=torch.bool), storing=False)
        bos = model.parts.project_bos(model.parts.decoder.depth)

        def fill(layer: int, normed: Tensor) -> Pair:
            columns = search.columns(layer, table[layer], normed)
            keys, values = model.parts.decoder.project(layer, table[layer])
            both = torch.cat([keys, values], 1).flatten(1)  # one gather of [M, 2 * H * E]
            rows = functional.embedding(columns, both).unflatten(-1, (2, *keys.shape[1:]))
            first = torch.stack(bos[layer], 1)[None].expand(len(ids), -1, -1, -1, -1)
            rows = torch.cat([first, rows], 1)
            return prefix.rotated(rows[:, :, 0], rows[:, :, 1])

        with Hooks() as hooks:
            prefix.install(hooks, fill)
            return prefix.states(ids), search

    # -- set-up ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        geometry, settings, parts = self.model.geometry, self.settings, self.model.parts
        if not any(share > 0 for share in settings.kinds.values()):
            raise InputError("no kind of step has a ratio above 0; give task.kinds, for instance {aged: 1}")
        if geometry.write.tap != "output" or geometry.write.drop != "per_layer":
            raise GeometryError(
                f"task recall trains the published rules: write_tap is {geometry.write.tap!r}, drop {geometry.write.drop!r}, expected "
                "'output' and 'per_layer'; set them in model.geometry, or use task language"
            )
        if geometry.sizes.reads_ltm and not isinstance(parts.retriever, PerLayerRetriever):
            raise GeometryError("task recall retrieves in every layer; set model.retriever: {voting: per_layer}, or ltm: false")
        if geometry.sizes.chunk_tokens < geometry.sizes.new_tokens:
            raise GeometryError(
                f"task recall needs chunk_tokens ({geometry.sizes.chunk_tokens}) of at least new_tokens (K, {geometry.sizes.new_tokens})"
            )
        if self.model.vocabulary < len(VOCABULARY):
            raise InputError(
                f"the model knows {self.model.vocabulary} tokens, the facts of task recall have {len(VOCABULARY)} words; start "
                "from model.scratch"
            )


class _Search:
    """Choice of long-term rows in each layer of one pass, and its loss."""

    def __init__(self, model: MPlusModel, view: RecallView, searched: int, kind: str) -> None:
        self.model, self.view, self.searched, self.kind = model, view, searched, kind
        self.losses: list[Tensor] = []
        self.found, self.findable = 0.0, 0.0

    def columns(self, layer: int, table: Tensor, normed: Tensor) -> Tensor:
        """[R, P - 1] columns read in a layer, oldest first: long-term, then short-term."""
        short = self.view.short[layer]
        if not self.view.long_tokens:
            return short
        chance = self._chance(layer, table, normed)
        right = self.view.right
        every = torch.ones_like(right)
        loss = paper_loss(chance, right, every) if self.kind == "paper" else contrastive_loss(as_score(chance), right, every)
        self.losses.append(loss)
        with torch.no_grad():
            scores = chance.detach().scatter(1, short, -1.0)
            best = scores.topk(self.view.long_tokens, dim=1).indices
            self.found += float(right.gather(1, best).sum())
            self.findable += float((right & (scores >= 0)).sum())
            order = self.view.ages.gather(1, best).argsort(1, descending=True)
            return torch.cat([best.gather(1, order), short], 1)

    def _chance(self, layer: int, table: Tensor, normed: Tensor) -> Tensor:
        """[R, M] mean over the question's tokens of the sigmoid, in float32."""
        retriever, decoder = self.model.parts.retriever, self.model.parts.decoder
        assert isinstance(retriever, PerLayerRetriever)
        with torch.autocast(table.device.type, enabled=False):
            with torch.no_grad():
                states = decoder.normed(layer, table.detach()).float()
            keys = retriever.keys(layer, states)
            query = normed[:, : self.searched].detach().float()
            text = torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)
            return retriever.scores(layer, query, text, keys)


def build(model: MPlusModel, settings: Settings, seed: int) -> Task:
    """The task of a recipe; makes trainable what `settings` names."""
    return RecallTask(model, settings, seed)
