"""Task ``language``: the paper's training of writing, reading and finding, for any base model. Knows sub-tasks and the reader.

Legend: B samples, T tokens of the text read, P prefix slots, K, N, K0 as in ``mplus.Geometry``.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mplus.attach.write_pass import keeps_write_kv
from mplus.errors import GeometryError, InputError
from mplus.model import MPlusModel
from mplus.text.prompts import Prompts
from mplus.text.search_query import last_user_span
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.bank.memory_bank import MemoryBank
from mplus.training.bank.step_rows import StepRows, encode_samples
from mplus.training.data.text_sources import Corpus, Source
from mplus.training.objectives.losses import language_loss
from mplus.training.objectives.prefix_read import PrefixRead
from mplus.training.objectives.selection import LtmChoice, RetrieverLoss, Selection, searched_layers
from mplus.training.objectives.task import ParameterGroup, StepOutput, Task
from mplus.training.objectives.trainable import Part, TrainableParts
from mplus.training.sampling import age
from mplus.training.sampling.memory_view import MemoryView, Write, view_of
from mplus.training.sampling.samples import KINDS, Kind, Rules, Sample, SampleBatch, SampleGenerator

HISTORY = 3  # a memory's past is so many times N / K writes: e^-3 of its beginning is left then


class Settings(BaseModel):
    """Settings of task kind `language`: sub-tasks, trained parts, text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str | None = Field(None, description="a local file or directory of text, instead of `sources`")
    sources: tuple[Source, ...] = Field((), description="texts, and passages with questions")
    subtasks: dict[Kind, float] = Field(
        {"two_chunk": 0.6, "multi_chunk": 0.2, "revisit": 0.1, "full_context": 0.1},
        description="ratios; a step is of one kind",
    )
    batch: int = Field(8, ge=1, description="samples of a step, over all processes")
    read_tokens: int = Field(2048, ge=4, description="longest text read after memory (paper: 2,048)")
    longest_chunks: int = Field(8, ge=1, description="multi_chunk: most chunks written")
    train: tuple[Part, ...] = Field(
        ("write", "read", "bos", "position", "retriever"),
        description="what is trained, of what the model has; `base`: everything",
    )
    pool_share: float = Field(0.8, ge=0, le=1, description="samples whose memory holds other text too")
    aged_share: float = Field(
        0.5, ge=0, le=1, description="two_chunk, revisit, question: samples whose target is older than newest"
    )
    longest_age: int = Field(0, ge=0, description="most writes between a target and its question; 0: never any")
    grow_ages: float = Field(0.0, ge=0, le=1, description="share of the run over which the longest age grows from 0")
    ages: Literal["simulated", "streamed"] = Field(
        "simulated", description="how drops are drawn; both have the same distribution"
    )
    bank_chunks: int = Field(64, ge=0, description="older memories kept, in chunks")
    bank_document: int = Field(2, ge=1, description="chunks of one kept document")
    bank_every: int = Field(4, ge=1, description="steps between fresh older memories")
    bank_fresh: int = Field(2, ge=1, description="documents written then")
    bank_on_cpu: bool = Field(False, description="keep older memories off the accelerator")
    others: int = Field(32, ge=0, description="older chunks that stand in one sample's memory beside the wrong ones of its step")
    wrong: int = Field(8, ge=0, description="older chunks a step's search learns against")
    right: int = Field(4, ge=1, description="chunks of its own document a sample's search learns from, drawn at random")
    ltm_choice: LtmChoice = Field("retriever", description="who chooses long-term tokens; random, recent, none for comparison")
    put_in_share: float = Field(0.5, ge=0, le=1, description="samples whose right tokens are read whatever the search says")
    retriever_loss: RetrieverLoss = "contrastive"
    retriever_weight: float = Field(1.0, ge=0)
    retriever_layers: int = Field(0, ge=0, description="layers whose search learns in one step (per-layer search); 0: all")
    retriever_rate: float = Field(2.0, gt=0, description="learning rate of the search, times the recipe's")
    query_tokens: int = Field(0, ge=0, description="text tokens long-term memory is searched with; 0: all that is read (paper)")
    instruction: str = Field("Repeat:", description="repeat: stands before the chunk")
    cue_tokens: int = Field(5, ge=0, description="repeat: first tokens that are given, without loss")


class LanguageTask(Task):
    """Trains writing, reading and retrieval on text. ``corpus`` may be given instead of the settings' sources."""

    def __init__(self, model: MPlusModel, settings: Settings, seed: int, *, corpus: Corpus | None = None) -> None:
        super().__init__()
        self.model, self.settings, self.seed = model, settings, seed
        self.subtasks = {kind: settings.subtasks[kind] for kind in KINDS if settings.subtasks.get(kind, 0) > 0}
        sources = () if corpus is not None else _sources(settings)
        self._check()
        self.corpus = corpus or Corpus(sources, model.tokenizer, seed, model.vocabulary)
        self.trained = TrainableParts(model, settings.train)
        self.decoder: nn.Module = model.parts.decoder.model
        searches = model.geometry.sizes.reads_ltm and settings.ltm_choice != "none"
        self.searched = searched_layers(model) if searches else ()
        keeps_kv = keeps_write_kv(model.geometry)  # else the bank's hidden states give those of the search by the input norm
        device = torch.device("cpu") if settings.bank_on_cpu else model.device
        encoder = ChunkEncoder(model, self.searched if keeps_kv else ())
        self.bank = MemoryBank(encoder, max(settings.bank_chunks, 1), device)
        self._check_blocks()
        self.randomness = random.Random(seed)
        self.maker = SampleGenerator(self.corpus, self.bank, self._rules(), self.randomness)
        self.groups_of_drops = model.parts.decoder.depth if model.geometry.write.drop == "per_layer" else 1
        self.steps, self.progress = 0, 0.0

    # -- the interface of a task -------------------------------------------------------------------------------------

    def groups(self) -> list[ParameterGroup]:
        return self.trained.groups(self.settings.retriever_rate)

    def prepare(self) -> None:
        documents = self.settings.bank_chunks // self.settings.bank_document
        if documents:
            with self.trained.in_place():
                self.bank.add(self.maker.documents(documents, self.settings.bank_document))

    def draw(self) -> SampleBatch:
        kind = self.randomness.choices(list(self.subtasks), list(self.subtasks.values()))[0]
        grown = min(1.0, self.progress / self.settings.grow_ages) if self.settings.grow_ages else 1.0
        return self.maker.batch(kind, self.settings.batch, round(self.settings.longest_age * grown))

    def shard(self, batch: SampleBatch, process: int, processes: int) -> SampleBatch:
        samples = batch.samples[process::processes]
        if not samples:
            raise InputError(
                f"{processes} processes share a batch of {len(batch.samples)}; raise task.batch or start fewer processes"
            )
        return SampleBatch(batch.kind, samples, batch.wrong)

    def forward(self, batch: SampleBatch) -> StepOutput:
        begun = time.perf_counter()
        with self.trained.in_place() as checkpointed:
            outcome = self._forward(batch, checkpointed)
        seconds = time.perf_counter() - begun
        outcome.metrics[f"forward tokens/s {batch.kind}"] = (outcome.tokens, seconds)
        return outcome

    def finish_step(self, progress: float) -> None:
        self.steps, self.progress = self.steps + 1, progress
        if self.settings.bank_chunks and self.steps % self.settings.bank_every == 0:
            fresh = min(self.settings.bank_fresh, self.settings.bank_chunks // self.settings.bank_document)
            with self.trained.in_place():
                self.bank.add(self.maker.documents(fresh, self.settings.bank_document))

    def state(self) -> dict[str, Any]:
        version, numbers, rest = self.randomness.getstate()
        return {
            "random": [version, list(numbers), rest],
            "corpus": self.corpus.state(),
            "older": self.bank.state(),
            "steps": self.steps,
            "progress": self.progress,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        version, numbers, rest = state["random"]
        self.randomness.setstate((version, tuple(numbers), rest))
        self.corpus.load_state(state["corpus"])
        self.bank.load_state(state["older"])
        self.steps, self.progress = int(state["steps"]), float(state["progress"])

    def save(self, directory: Path) -> None:
        self.trained.put_back()
        self.model.save_pretrained(directory, include_base="base" in self.settings.train)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _forward(self, batch: SampleBatch, checkpointed: tuple[int, ...]) -> StepOutput:
        model, samples = self.model, batch.samples
        rows = encode_samples(self.bank, samples, self.searched, grad=self.trained.writing, checkpointed=checkpointed)
        views = [self._view(sample, rows, row) for row, sample in enumerate(samples)]
        prompts = Prompts.from_rows([list(sample.text) for sample in samples], 0, model.device)
        search = self._search(batch, rows, views, prompts)
        reader = PrefixRead(model, rows, views, search, prompts.ids, prompts.mask, checkpointed=checkpointed)
        wanted = self._wanted(samples, prompts)
        logits = reader.forward(wanted)
        loss, metrics = self._losses(batch.kind, logits, wanted, prompts)
        learned = self._search_loss(search, batch, rows)
        if learned is not None:
            metrics["retriever loss"] = (float(learned.detach()) * len(samples), len(samples))
            loss = loss + self.settings.retriever_weight * learned
        if search.retrievable:
            metrics["found"] = (search.retrieved, search.retrievable)
            metrics["found by chance"] = (search.by_chance, search.retrievable)
        tokens = sum(len(sample.text) + sum(map(len, sample.chunks)) for sample in samples)
        return StepOutput(loss, len(samples), tokens, metrics)

    def _search(self, batch: SampleBatch, rows: StepRows, views: list[MemoryView], prompts: Prompts) -> Selection:
        first = prompts.ids.shape[1] - torch.tensor([len(sample.text) for sample in batch.samples])
        turns = [last_user_span(self.model.tokenizer, sample.text[: sample.searched]) for sample in batch.samples]
        first, last = (first + torch.tensor(edge) for edge in ([turn.start for turn in turns], [turn.stop for turn in turns]))
        place = torch.arange(prompts.ids.shape[1])[None]
        searched = (place >= first[:, None]) & (place < last[:, None])
        return Selection(
            self.model,
            rows,
            views,
            prompts.ids,
            searched.to(prompts.mask.device),
            choice=self.settings.ltm_choice,
            put_in=[sample.put_in for sample in batch.samples],
            seed=batch.samples[0].seed,
        )

    def _losses(
        self, kind: Kind, logits: Tensor, wanted: Tensor, prompts: Prompts
    ) -> tuple[Tensor, dict[str, tuple[float, float]]]:
        """Mean over samples of each one's mean over tokens, so that shares of a batch average to the whole."""
        targets = prompts.ids.roll(-1, 1)[wanted]
        counts = wanted.sum(1).tolist()
        each, right = zip(
            *(language_loss(part, aim) for part, aim in zip(logits.split(counts), targets.split(counts), strict=True)),
            strict=True,
        )
        loss = torch.stack(each).mean()
        metrics = {
            f"loss {kind}": (float(loss.detach()) * len(counts), float(len(counts))),
            f"right tokens {kind}": (float(sum(right)), float(sum(counts))),
        }
        return loss, metrics

    def _wanted(self, samples: tuple[Sample, ...], prompts: Prompts) -> Tensor:
        """[B, T] True where the next token is a target."""
        width = prompts.ids.shape[1]
        out = torch.zeros(len(samples), width, dtype=torch.bool)
        for row, sample in enumerate(samples):
            out[row, width - len(sample.text) + sample.first_target - 1 : width - 1] = True
        return out.to(prompts.ids.device)

    def _view(self, sample: Sample, step: StepRows, row: int) -> MemoryView:
        rows = self.bank.rows_per_chunk
        own = step.writes(row) or [Write(rows, place * rows, right=True) for place in sample.target_places]
        around = [
            Write(rows, sample.others[rank % len(sample.others)] * rows, findable=rank < len(sample.others))
            for rank in range(sample.age + sample.past)
        ]  # the newest first
        writes = [*reversed(around[sample.age :]), *own, *reversed(around[: sample.age])]
        membership = age.simulated if self.settings.ages == "simulated" else age.streamed
        return step.narrowed(view_of(writes, self.model.geometry, self.groups_of_drops, sample.seed, membership), sample, row)

    def _search_loss(self, search: Selection, batch: SampleBatch, step: StepRows) -> Tensor | None:
        settings = self.settings
        if settings.retriever_loss == "none" or "retriever" not in self.trained.parts or settings.ltm_choice == "none":
            return None
        rows = self.bank.rows_per_chunk
        wrong = self._whole_blocks([(place * rows, rows) for place in batch.wrong])
        own = []
        for row, sample in enumerate(batch.samples):
            asked = step.columns(row, sample)
            own.append(self._whole_blocks(random.Random(sample.seed).sample(asked, min(len(asked), settings.right))))
        return search.loss(settings.retriever_loss, wrong, own, settings.retriever_layers)

    def _whole_blocks(self, chunks: list[tuple[int, int]]) -> list[Tensor]:
        """Columns of chunks (first, count), each without a last block that is not whole."""
        block = self.model.geometry.read.block_tokens if self.model.geometry.read.is_shared else 1
        parts = [torch.arange(first, first + count // block * block) for first, count in chunks]
        return [part for part in parts if part.numel()]

    # -- set-up --------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        geometry, settings = self.model.geometry, self.settings
        if not self.subtasks:
            raise InputError("no sub-task has a ratio above 0; give task.subtasks, for instance {two_chunk: 1}")
        if geometry.write.tap == "output" and geometry.sizes.chunk_tokens < geometry.sizes.new_tokens:
            raise GeometryError(
                f"training with write_tap='output' needs chunk_tokens ({geometry.sizes.chunk_tokens}) of at least new_tokens (K, "
                f"{geometry.sizes.new_tokens}): shorter chunks would refresh old rows; raise chunk_tokens"
            )
        if settings.bank_chunks and settings.bank_chunks < settings.bank_document:
            raise InputError(
                f"bank_chunks ({settings.bank_chunks}) holds no document of bank_document ({settings.bank_document}) chunks"
            )
        self._check_room()

    def _check_room(self) -> None:
        geometry, settings = self.model.geometry, self.settings
        slots = 1 + geometry.sizes.stm_tokens + (geometry.sizes.ltm_read_tokens if geometry.sizes.reads_ltm else 0)
        positions = self.model.parts.decoder.positions
        if slots + settings.read_tokens > positions:
            raise GeometryError(
                f"memory takes {slots} positions and task.read_tokens is {settings.read_tokens}, the model has {positions}; "
                "lower task.read_tokens, N or K0"
            )

    def _check_blocks(self) -> None:
        geometry, rows = self.model.geometry, self.bank.rows_per_chunk
        learns = "retriever" in self.trained.parts and self.settings.retriever_loss != "none"
        if learns and geometry.read.is_shared and rows < geometry.read.block_tokens:
            raise GeometryError(
                f"a chunk makes {rows} memory tokens, fewer than the {geometry.read.block_tokens} of a block, so the search has nothing whole to "
                "learn from; lower block_tokens, raise new_tokens (K), or set task.retriever_loss=none"
            )

    def _rules(self) -> Rules:
        settings, geometry = self.settings, self.model.geometry
        tokenizer = self.model.tokenizer
        instruction = self.corpus.encode(settings.instruction + "\n") if tokenizer is not None and settings.instruction else []
        return Rules(
            chunk_tokens=geometry.sizes.chunk_tokens,
            read_tokens=settings.read_tokens,
            longest_chunks=settings.longest_chunks,
            past_writes=HISTORY * -(-geometry.sizes.stm_tokens // self.bank.rows_per_chunk),
            pool_share=settings.pool_share,
            aged_share=settings.aged_share,
            put_in_share=settings.put_in_share,
            query_tokens=settings.query_tokens,
            others=settings.others,
            wrong=settings.wrong,
            instruction=tuple(instruction),
            cue_tokens=settings.cue_tokens,
        )


def build(model: MPlusModel, settings: Settings, seed: int) -> Task:
    """The task of a recipe; makes trainable what `settings` names."""
    return LanguageTask(model, settings, seed)


def _sources(settings: Settings) -> tuple[Source, ...]:
    if settings.data is not None and settings.sources:
        raise InputError("give either task.data (one file or directory) or task.sources, not both")
    if settings.data is not None:
        return (Source(path=settings.data),)
    if not settings.sources:
        raise InputError("no data: give task.data=FILE (jsonl, txt or parquet) or task.sources")
    return settings.sources
