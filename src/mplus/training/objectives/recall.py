"""Task ``recall``: the paper's scheme on facts at any age, as whole tensors. Knows memory's rules, nothing of text files.

A step writes B chunks with gradient and asks about a fact of each as if it had been written any number of writes ago: its rows
stand in short-term memory, in long-term memory or in both as random drops would have it, differently in every layer
(``sampling.drop_table``); the other chunks, of this step and of a bank of older ones, are the rest of memory. Every layer retrieves its
own K0 rows with the projectors that are trained beside it.

Legend: B chunks, R questions of a step, T tokens, L layers, C chunks of bank and step, K rows of a chunk, M = C * K rows, P prefix slots,
D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from mplus.attach.hooks import Hooks
from mplus.attach.prefix_pass import Pair, PrefixPass
from mplus.corpus.pair_facts import FACT_SHARE, FACT_WORDS, NAMES, STOP, VALUE_AT, VOCABULARY
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

Kind = Literal["young", "aged"]
GROWN: Final = 1.5
"""A step of the curriculum of young memories multiplies their writes by so much."""
MOST_ASKED: Final = 8
"""Questions on one young memory."""
STOP_ID: Final = VOCABULARY.index(STOP)
RECENT: Final = 0.1
"""Weight of a step in the running share of right answers."""


class Settings(BaseModel):
    """Settings of task kind `recall`: kinds of steps, ages, trained parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: dict[Kind, float] = Field(
        {"aged": 0.85, "young": 0.15},
        description="ratios; young: memories of few writes, from which nothing has been dropped; aged: any age up to `longest_age`",
    )
    young_writes: int | None = Field(
        None, ge=1, description="writes of young memories at first; they grow while answers are right; null: as many as are held"
    )
    grow_at: float = Field(0.9, gt=0, lt=1, description="share of right answers at which young memories grow")
    batch: int = Field(32, ge=2, description="chunks written in a step; aged: each is asked about once")
    questions: int = Field(256, ge=1, description="young: questions of a step, on memories of chunks drawn from the step's")
    names: int = Field(
        NAMES, ge=2, description="first and last names in a step; the fewer, the more facts share a name with another"
    )
    fact_share: float = Field(FACT_SHARE, gt=0, le=1, description="share of the sentences that are facts")
    longest_age: int = Field(16, ge=0, description="most writes between a fact and its question")
    grow_ages: float = Field(0.0, ge=0, le=1, description="share of the run over which the longest age grows from 0")
    bank_chunks: int = Field(128, ge=1, description="older chunks kept as the rest of memory")
    train: tuple[Part, ...] = Field(
        ("base", "bos", "position", "retriever"), description="what is trained, of what the model has"
    )
    ltm_choice: Literal["retriever", "none"] = Field(
        "retriever", description="none: long-term memory is not read (stages 1 and 2)"
    )
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
        self.chunks = PairChunkGenerator(sizes.chunk_tokens, sizes.new_tokens, settings.names, seed, settings.fact_share)
        self.trained = TrainableParts(model, settings.train)
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
        self.most_writes = max(1, sizes.stm_tokens // sizes.new_tokens)
        self.writes = min(settings.young_writes or self.most_writes, self.most_writes)
        self.right = 0.0  # running share of right answers behind young memories

    # -- the interface of a task -------------------------------------------------------------------------------------

    def groups(self) -> list[ParameterGroup]:
        return self.trained.groups(self.settings.retriever_rate)

    def prepare(self) -> None:
        with self.trained.in_place(), torch.no_grad():
            for _ in range(-(-self.settings.bank_chunks // self.settings.batch)):
                self._keep(self._written(self.chunks.draw(self.settings.batch, self.generator)))

    def draw(self) -> tuple[Kind, PairChunks]:
        chunks = self.chunks.draw(self.settings.batch, self.generator)
        at = torch.multinomial(torch.tensor(list(self.kinds.values())), 1, generator=self.generator)
        return list(self.kinds)[int(at)], chunks

    def shard(self, batch: tuple[Kind, PairChunks], process: int, processes: int) -> tuple[Kind, PairChunks]:
        if processes > 1:
            raise InputError("task `recall` trains a model of a few million numbers and runs in one process; start it with one")
        return batch

    def forward(self, batch: tuple[Kind, PairChunks]) -> StepOutput:
        kind, chunks = batch
        with self.trained.in_place():
            hidden = self._written(chunks)
            outcome = self._young(chunks, hidden) if kind == "young" else self._aged(chunks, hidden)
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
            "writes": self.writes,
            "right": self.right,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self.drops.load_state(state["drops"])
        self.bank.copy_(state["bank"])
        self.newest = None if state["newest"] is None else state["newest"].to(self.model.device)
        self.next, self.progress = int(state["next"]), float(state["progress"])
        self.writes, self.right = int(state["writes"]), float(state["right"])

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

    def _young(self, chunks: PairChunks, hidden: Tensor) -> StepOutput:
        """Memories of some chunks of this step, from which nothing was dropped; ask several of each memory, one after the other."""
        writes = int(torch.randint(-(-self.writes // 2), self.writes + 1, (), generator=self.generator))
        asked = min(writes, MOST_ASKED)
        memories = max(1, self.settings.questions // asked)
        held = torch.rand(memories, len(chunks.ids), generator=self.generator).argsort(1)[:, :writes]
        order = torch.rand(held.shape, generator=self.generator).argsort(1)[:, :asked]
        of = held.gather(1, order)
        facts = torch.cat([chunks.questions, chunks.answers[:, None], torch.full_like(chunks.answers, STOP_ID)[:, None]], 1)[of]
        ids = facts.flatten(1)[:, : -FACT_WORDS + VALUE_AT].to(self.model.device)
        rows = self.model.geometry.sizes.new_tokens
        columns = ((held + self.settings.bank_chunks)[:, :, None] * rows + torch.arange(rows)).flatten(1)
        nothing = torch.zeros(memories, 0)
        view = RecallView(columns.expand(self.model.parts.decoder.depth, -1, -1), nothing.bool(), nothing, 0)
        states, _ = self._read(ids, view, hidden)
        states = states[:, VALUE_AT - 1 :: FACT_WORDS].flatten(0, 1)
        outcome = self._outcome("young", states, chunks.answers[of].flatten(), chunks.ids.numel() + ids.numel())
        ((right, count),) = (outcome.metrics["right young"],)
        self._grow(right / count)
        outcome.metrics["young writes"] = (float(self.writes), 1.0)
        return outcome

    def _aged(self, chunks: PairChunks, hidden: Tensor) -> StepOutput:
        """Ask every chunk its question, behind a memory of its own."""
        questions = chunks.questions.to(self.model.device)
        states, search = self._read(questions, self._view(torch.arange(len(questions))), hidden)
        outcome = self._outcome("aged", states[:, -1], chunks.answers, chunks.ids.numel() + questions.numel())
        if search.losses:
            learned = torch.stack(search.losses).mean()
            outcome.loss = outcome.loss + self.settings.retriever_weight * learned
            outcome.metrics["retriever loss"] = (float(learned.detach()), 1.0)
            outcome.metrics["found"] = (search.found, max(1.0, search.findable))
        return outcome

    def _outcome(self, kind: Kind, states: Tensor, answers: Tensor, tokens: int) -> StepOutput:
        """Loss on the words that follow states [n, D]."""
        answers = answers.to(self.model.device)
        logits = self.model.parts.decoder.model.lm_head(states).float()
        loss = functional.cross_entropy(logits, answers)
        right = float((logits.argmax(-1) == answers).sum())
        metrics = {f"loss {kind}": (float(loss.detach()), 1.0), f"right {kind}": (right, float(len(answers)))}
        return StepOutput(loss, len(answers), tokens, metrics)

    def _grow(self, right: float) -> None:
        """Make young memories longer once what they hold is told."""
        self.right += RECENT * (right - self.right)
        if self.right > self.settings.grow_at and self.writes < self.most_writes:
            self.writes = min(self.most_writes, max(self.writes + 1, int(self.writes * GROWN)))
            self.right = 0.0

    # -- reading -----------------------------------------------------------------------------------------------------

    def _view(self, own: Tensor) -> RecallView:
        """What each question's memory holds after many writes; `own` [R] is the chunk of this step that it asks about."""
        settings, sizes = self.settings, self.model.geometry.sizes
        grown = min(1.0, self.progress / settings.grow_ages) if settings.grow_ages else 1.0
        total = settings.bank_chunks + settings.batch
        longest = round(settings.longest_age * grown)
        births = self.drops.draw(len(own), self.generator)
        found = sizes.ltm_read_tokens if self.retrieves else 0
        return views_of(births, own + settings.bank_chunks, total, longest, found, sizes.new_tokens, self.generator)

    def _read(self, ids: Tensor, view: RecallView, hidden: Tensor) -> tuple[Tensor, _Search]:
        """Last states [R, T, D] of questions behind their memories."""
        model = self.model
        live = hidden.transpose(0, 1).flatten(1, 2)
        table = torch.cat([self.bank, live], 1)  # [L, M, D]
        search = _Search(model, view.to(model.device), self.settings.retriever_loss)
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
        if geometry.sizes.chunk_tokens < 2 * geometry.sizes.new_tokens:
            raise GeometryError(
                f"task recall needs chunk_tokens ({geometry.sizes.chunk_tokens}) of at least twice new_tokens "
                f"({geometry.sizes.new_tokens}), so that every chunk fills a write; set them in model.geometry"
            )
        if self.model.vocabulary < len(VOCABULARY):
            raise InputError(
                f"the model knows {self.model.vocabulary} tokens, the facts of task recall have {len(VOCABULARY)} words; start "
                "from model.scratch"
            )


class _Search:
    """Choice of long-term rows in each layer of one pass, and its loss."""

    def __init__(self, model: MPlusModel, view: RecallView, kind: str) -> None:
        self.model, self.view, self.kind = model, view, kind
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
            query = normed.detach().float()
            text = torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)
            return retriever.scores(layer, query, text, keys)


def build(model: MPlusModel, settings: Settings, seed: int) -> Task:
    """The task of a recipe; makes trainable what `settings` names."""
    return RecallTask(model, settings, seed)
