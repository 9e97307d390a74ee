"""The public model: a decoder that keeps what it has read in latent memory. Knows no file format and no layer internals.

The rooms behind it import transformers (three seconds), so they are imported when a model is opened.

Legend: B prompts, T prompt tokens, V vocabulary, L layers, D width, R retriever key width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from mplus.attach.parts import ModelParts
    from mplus.checkpoints.arguments import OpenSettings
    from mplus.checkpoints.load_report import LoadReport
    from mplus.checkpoints.loaded_model import LoadedModel
    from mplus.inference.reader import MPlusOutput
    from mplus.inference.request import Readable
    from mplus.memory.arguments import Text
    from mplus.memory.memory import Memory
    from mplus.memory.rows import EncodedChunk
    from mplus.memory.selection import Time
    from mplus.memory.stores.disk import DiskStorage
    from mplus.settings import Geometry, GeometrySettings, MemoryFormat
    from mplus.settings.calibration import Calibration
    from mplus.trace.trace import Answer

Messages = Sequence[Mapping[str, Any]]
Traced = Literal[True, "attention"]


class MPlusModel:
    """A language model with M+ memory. The model never changes; memories are values of their own.

    >>> model = MPlusModel.from_pretrained("smollm2-135m")
    >>> memory = model.new_memory()
    >>> memory.write(open("book.txt").read(), source="book.txt")
    >>> model.chat([{"role": "user", "content": "Who looks after the lighthouse?"}], memory=memory)

    Attributes:
        checkpoint: the model as it was opened, with everything that is stored of it.
        writer: encodes text for memories.
        reader: reads memories; opens the passes that ``__call__``, ``generate``, ``chat`` and ``log_likelihood`` are made of.
    """

    def __init__(self, checkpoint: LoadedModel, *, memory_format: MemoryFormat | None = None) -> None:
        from mplus.inference.reader import Reader
        from mplus.inference.writer import Writer

        self.checkpoint = checkpoint
        self.writer = Writer(checkpoint, memory_format=memory_format)
        self.reader = Reader(self.writer)

    def __repr__(self) -> str:
        sizes, base = self.geometry.sizes, self.parts.decoder.config.model_type
        memory = f"K={sizes.new_tokens}, N={sizes.stm_tokens}, K0={sizes.ltm_read_tokens}, M={sizes.ltm_capacity}"
        return f"MPlusModel({self.name!r}, base={base}, {memory}, dtype={self.dtype}, device={self.device})"

    # -- identity --------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that memories and results note."""
        return self.checkpoint.name

    @property
    def fingerprint(self) -> str:
        """Identity of base, adapters and memory parts; a memory opens only with the model that wrote it."""
        return self.writer.fingerprint

    @property
    def geometry(self) -> Geometry:
        """Sizes and rules of this model and of its new memories."""
        return self.checkpoint.geometry

    @property
    def calibration(self) -> Calibration | None:
        """How a read gives a confidence; None: it was not fitted for these weights (``mplus calibrate``)."""
        return self.checkpoint.calibration

    @property
    def tokenizer(self) -> Any:
        """A tokenizer of transformers; None where the model was opened without one."""
        return self.checkpoint.tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.checkpoint.tokenizer = tokenizer

    @property
    def parts(self) -> ModelParts:
        """The decoder with its memory parts."""
        return self.checkpoint.parts

    @property
    def attached(self) -> ModelParts:
        """Former name of ``parts``."""
        return self.parts

    @property
    def device(self) -> torch.device:
        """The device the model computes on."""
        return self.parts.decoder.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of its weights."""
        return self.parts.decoder.dtype

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table."""
        return self.parts.decoder.vocabulary

    @property
    def load_report(self) -> LoadReport:
        """The fate of every tensor of the checkpoint."""
        return self.checkpoint.report

    # -- opening and storing ---------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        memory_format: MemoryFormat | None = None,
        attn_implementation: str | None = None,
        **settings: Unpack[OpenSettings],
    ) -> MPlusModel:
        """Open our own format, a published M+ or a published MemoryLLM checkpoint; which one is seen from its content.

        Args:
            path_or_id: name of an embedded model ("smollm2-135m"), local directory, or hub id.
            dtype: "auto" (see ``dtypes.resolve_dtype``), a name or a torch type.
            memory_format: what new memories keep per token: "kv", or "hidden" as in the paper; default: the smaller.
            attn_implementation: any of transformers' ("sdpa", "eager", "flash_attention_2", ...).
            settings: fields of ``Geometry`` to replace, e.g. ``ltm=False`` for MemoryLLM, ``K0=256``; transformers' ``torch_dtype``, ``device_map``
                (of one device), ``quantization_config``, ``revision``, ``token``, ``cache_dir``, ``local_files_only``; of a delta, ``base``
                (where its base lies) and ``allow_download`` (of the base it names).

        Raises:
            CheckpointError: missing, extra, misshapen, damaged or non-finite weights (the first faults of each kind are named, the rest counted).
            BaseModelMissingError: the base weights are not on this machine.
            GeometryError: a replaced field is unknown or contradicts the rest.
            InputError: an argument that is unknown or has no meaning here.
        """
        from mplus.checkpoints import loading

        opened = loading.open_checkpoint(
            path_or_id, settings=dict(settings), dtype=dtype, device=device, attention=attn_implementation
        )
        return cls(opened, memory_format=memory_format)

    @classmethod
    def from_base(
        cls,
        base: PreTrainedModel | str | Path,
        *,
        geometry: Geometry | None = None,
        tokenizer: Any = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        memory_format: MemoryFormat | None = None,
        attn_implementation: str | None = None,
        **parts: Any,
    ) -> MPlusModel:
        """Fresh memory parts on a stock decoder; it reads and finds at once, without any training.

        Args:
            base: a loaded ``...ForCausalLM`` (then give its `tokenizer`), or the name, directory or hub id of one.
            geometry: sizes and rules; default ``Geometry()``.
            parts: ``key_width`` (trainable retriever), ``voting``, ``read_lora``, ``write_lora``; see ``attach_fresh``. And
                the arguments of transformers that ``from_pretrained`` takes.

        Raises:
            UnsupportedModelError: another architecture; the message lists the supported ones.
            GeometryError: the memory does not fit the decoder's positions.
            InputError: an argument that is unknown or has no meaning here.
        """
        from mplus.checkpoints import loading

        opened = loading.open_base(
            base, geometry, tokenizer, parts=parts, dtype=dtype, device=device, attention=attn_implementation
        )
        return cls(opened, memory_format=memory_format)

    def save_pretrained(self, directory: str | Path, *, include_base: bool = False) -> None:
        """Store the memory parts and the name and fingerprint of the base they belong to; or everything.

        What was there is replaced whole or not at all.
        """
        from mplus.checkpoints.delta import save_delta

        save_delta(self.checkpoint, Path(directory), include_base=include_base)

    # -- writing ---------------------------------------------------------------------------------------------------

    def new_memory(
        self,
        *,
        seed: int = 0,
        memory_format: MemoryFormat | None = None,
        initialised: bool = True,
        store: DiskStorage | str | Path = "ram",
        **geometry: Unpack[GeometrySettings],
    ) -> Memory:
        """Make an empty memory (published models: with their initial pool).

        Args:
            seed: of the memory's own generator of random drops.
            memory_format: "kv" or "hidden"; default: the model's.
            initialised: False starts a published MemoryLLM without a pool; its first write makes one.
            store: where long-term rows live: "ram", or a directory of their own for more than RAM holds. Without ``save``
                they end with the process either way.
            geometry: sizes to replace, e.g. ``stm_tokens=1536, ltm=False``.

        Raises:
            StoreError: the directory is in use, not to be written, or holds something else.
        """
        from mplus.memory.memory import Memory

        chosen = self.geometry.changed(**geometry) if geometry else self.geometry
        initial = self.checkpoint.initial
        start = initialised and (initial is None or initial.initialised)
        return Memory(self.writer, chosen, memory_format or self.writer.memory_format, seed, initialised=start, store=store)

    def encode(
        self,
        ids: Sequence[int] | Tensor,
        memory: Memory | None = None,
        *,
        source: str | None = None,
        tail: EncodedChunk | None = None,
        logits: bool = False,
    ) -> EncodedChunk:
        """Run one chunk through the write pass without changing `memory`.

        Args:
            ids: [T] token ids, T at most ``geometry.sizes.chunk_tokens``.
            memory: whose newest tokens the chunk sees; None: a new one's.
            source: the one that the chunk belongs to, whose newest tokens it sees with ``write_context="source"``; None: unnamed text.
            tail: an earlier chunk to be seen instead, as if it had just been written.
            logits: also keep logits and layer inputs.
        """
        return self.writer.encode(ids, memory, source=source, tail=tail, logits=logits)

    def write_many(
        self,
        memories: Memory | Sequence[Memory],
        texts: Sequence[Text],
        sources: Sequence[str | None] | None = None,
        *,
        batch: int = 8,
        at: Time | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[int]:
        """Read texts into several memories, or into one, with the results of ``memory.write`` one by one, in shared passes.

        Args:
            memories: one for all texts (with ``write_context="source"``; then each text is a source of its own), or one each.
            texts, sources: as for ``Memory.write``, one each.
            batch: chunks of one pass at most.
            at: as for ``Memory.write``.
            progress: called with the text tokens written so far, over all memories.

        Returns:
            text tokens taken in, the pending ones included, per text.

        Raises:
            EmptyTextError, InputError: found before anything is written.
        """
        from mplus.memory.write_many import write_many

        return write_many(self.writer, memories, texts, sources, batch=batch, at=at, progress=progress)

    def cut(self, text: str, *, special_tokens: bool = False) -> list[list[int]]:
        """Cut a text into chunks of token ids, as ``memory.write`` does.

        Args:
            special_tokens: take special tokens that the text spells out as such; else they are characters as others are.

        Raises:
            EmptyTextError: there is nothing but white space.
        """
        return self.writer.cut(text, special_tokens=special_tokens)

    def tokenize(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """Token ids of a text as ``memory.write`` takes it, no special tokens added."""
        return [token for chunk in self.cut(text, special_tokens=special_tokens) for token in chunk]

    # -- reading ---------------------------------------------------------------------------------------------------

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        memory: Readable | Sequence[Readable] | None = None,
        *,
        return_retrieved: bool = False,
        output_hidden_states: bool = False,
        exact: bool = False,
        query: Any = None,
        rounds: int = 1,
    ) -> MPlusOutput:
        """Logits of prompts that read `memory`.

        Args:
            input_ids: [B, T], left-padded where `attention_mask` [B, T] is 0. Behind a memory, a BOS that begins a prompt is passed
                over as padding is (its logits mean nothing): memory's own stands in front.
            memory: one for all prompts, one each, or several for one prompt; a ``EncodedChunk`` is read alone; None: the bare base.
            return_retrieved: give what each prompt drew from long-term memory.
            output_hidden_states: give what entered each layer, and the last layer's output behind the final norm.
            exact: score every long-term token; else ``Geometry.search`` says from which size on candidates are enough.
            query: what searches memory: a text, texts or token ids; default: the last user turn, see ``mplus.text.search_query``.
            rounds: 2 searches again with what the first search found, for what needs two steps.
        """
        return self.reader.forward(
            self.reader.prompts_of(input_ids, attention_mask),
            memory,
            return_retrieved=return_retrieved,
            output_hidden_states=output_hidden_states,
            exact=exact,
            query=query,
            rounds=rounds,
        )

    @overload
    def generate(self, prompt: str, memory: Memory, *, trace: Traced, **kwargs: Any) -> Answer: ...
    @overload
    def generate(
        self, prompt: Sequence[str], memory: Memory | Sequence[Memory], *, trace: Traced, **kwargs: Any
    ) -> list[Answer]: ...
    @overload
    def generate(self, prompt: str, memory: Memory, *, confidence: Literal[True], **kwargs: Any) -> Answer: ...
    @overload
    def generate(
        self, prompt: Sequence[str], memory: Memory | Sequence[Memory], *, confidence: Literal[True], **kwargs: Any
    ) -> list[Answer]: ...
    @overload
    def generate(self, prompt: str, memory: Readable | None = None, **kwargs: Any) -> str: ...
    @overload
    def generate(self, prompt: str, memory: Sequence[Readable], **kwargs: Any) -> list[str]: ...
    @overload
    def generate(
        self, prompt: Sequence[str], memory: Readable | Sequence[Readable] | None = None, **kwargs: Any
    ) -> list[str]: ...
    @overload
    def generate(self, prompt: Any = None, memory: Readable | Sequence[Readable] | None = None, **kwargs: Any) -> Any: ...

    def generate(self, prompt: Any = None, memory: Readable | Sequence[Readable] | None = None, **kwargs: Any) -> Any:
        """Continue prompts that read `memory`; takes the arguments of transformers' ``generate``.

        Args:
            prompt: one text, several texts, token ids [T] or [B, T] (with ``attention_mask`` if padded on the left), or what a
                tokenizer gives. Special tokens spelled out in a text are taken as such, as in transformers. Behind a memory, a BOS
                that begins a prompt is passed over: memory's own stands in front.
            memory: one for all prompts, one each, several for one prompt, or None for the bare base model.
            kwargs: e.g. ``max_new_tokens`` (default: what the model's files say, else 20), ``do_sample``, ``num_beams``,
                ``streamer``. Ours: ``retrieved``, a list to which is appended what each prompt drew from long-term memory;
                ``exact=True`` scores every long-term token; ``query``, a text, texts or token ids that search memory instead of the
                last user turn (``mplus.text.search_query``); ``rounds=2`` searches again with what the first search found;
                ``trace=True`` tells what the answer drew on, ``trace="attention"`` also
                how much attention each passage got while it was made; ``confidence=True`` tells the probability that the memory holds the
                answer, which ``trace`` tells too where it can; ``min_confidence=0.5`` gives "I don't have that in memory." in place of
                an answer of less. A setting that cannot be used with a memory is refused by name.

        Returns:
            for text, the new text (a list for several; those of one prompt together where ``num_return_sequences`` asks for more),
            with ``trace`` or ``confidence`` an ``Answer`` of text, ``Trace`` and confidence in its place;
            for ids, what transformers returns, prompts as given included.

        Raises:
            EmptyTextError, PromptTooLongError, InputError.
        """
        return self.reader.generate(prompt, memory, kwargs)

    @overload
    def chat(
        self, messages: Messages, memory: Memory, *, trace: Traced, template: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Messages],
        memory: Memory | Sequence[Memory],
        *,
        trace: Traced,
        template: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Answer]: ...
    @overload
    def chat(
        self,
        messages: Messages,
        memory: Memory,
        *,
        confidence: Literal[True],
        template: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Messages],
        memory: Memory | Sequence[Memory],
        *,
        confidence: Literal[True],
        template: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Answer]: ...
    @overload
    def chat(
        self, messages: Messages, memory: Readable | None = None, *, template: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> str: ...
    @overload
    def chat(
        self,
        messages: Sequence[Messages],
        memory: Readable | Sequence[Readable] | None = None,
        *,
        template: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[str]: ...
    @overload
    def chat(
        self, messages: Any, memory: Readable | Sequence[Readable] | None = None, *, template: Any = None, **kwargs: Any
    ) -> Any: ...

    def chat(
        self, messages: Any, memory: Readable | Sequence[Readable] | None = None, *, template: Any = None, **kwargs: Any
    ) -> Any:
        """Answer a conversation, or several, through the tokenizer's chat template.

        Args:
            messages: ``[{"role": "user", "content": ...}, ...]`` or a list of such lists. An assistant's message at the end is an
                answer begun, which is continued.
            template: what the chat template is told besides, e.g. ``{"enable_thinking": False}`` or ``{"tools": [...]}``.
            kwargs: as for ``generate``; ``max_new_tokens`` is 256 where neither caller nor model files say it.

        Returns:
            the answer without white space around it, or a list of them, in the order of ``generate``; with ``trace`` or ``confidence``, ``Answer``s.
        """
        return self.reader.chat(messages, memory, template, kwargs)

    def log_likelihood(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        memory: Readable | Sequence[Readable] | None = None,
        *,
        query: Any = None,
        rounds: int = 1,
    ) -> list[Tensor]:
        """Log-probabilities [C_b] of the tokens of each continuation behind its prompt; the prompt alone chooses what is read.

        Args:
            prompts, continuations: token ids, at least one each.
            query, rounds: as for a call of the model.
        """
        return self.reader.log_likelihood(prompts, continuations, memory, query=query, rounds=rounds)

    @contextmanager
    def untouched(self) -> Iterator[PreTrainedModel]:
        """The stock decoder with no adapter on, for baselines. Other threads wait; this one may read memories inside."""
        with self.writer.turn.held(nests=True), self.parts.adapters.on(None):
            yield self.parts.decoder.model
