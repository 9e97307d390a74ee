"""Proofs of SECURITY.md: every sentence of its lists is shown by a test that names it."""

from __future__ import annotations

import builtins
import json
import re
import shutil
import sys
import zipfile
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mplus import Memory, MPlusModel
from mplus.checkpoints.base_models import base as bases
from mplus.checkpoints.base_models.stock import load_decoder
from mplus.errors import (
    BaseModelMissingError,
    CheckpointError,
    InputError,
    MPlusError,
    RecipeError,
    SnapshotError,
    WrongModelError,
)
from mplus.evaluation.tasks.task_file import open_task
from mplus.memory.compact import compact
from mplus.memory.keys import Keys
from mplus.memory.portable import export_memory, import_memory
from mplus.text.documents import document_text
from mplus.training.run.recipe_file import read_recipe
from tests.published import write_published
from tests.tiny import byte_tokenizer, text_model, tiny_decoder, tiny_geometry
from tests.unit.text.making import OFFICE, docx

PAPER = Path(__file__).parents[2] / "SECURITY.md"
RELATIONS = OFFICE.rpartition("/")[0]
PROVED: dict[str, str] = {}
CODE = "import pathlib\npathlib.Path({mark!r}).touch()\n"


def proves(sentence: str) -> Callable[[Any], Any]:
    """Marks the test of one sentence of SECURITY.md."""

    def note(test: Any) -> Any:
        PROVED[sentence] = test.__name__
        return test

    return note


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A whole stock model with a tokenizer."""
    directory = tmp_path / "model"
    tiny_decoder(vocabulary=256).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def change(path: Path, **fields: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    data.update(fields)
    path.write_text(json.dumps(data), encoding="utf-8")


def from_base(directory: Path, **options: Any) -> MPlusModel:
    return MPlusModel.from_base(directory, geometry=tiny_geometry(), dtype="float32", device="cpu", **options)


def sentences() -> list[str]:
    text = re.sub(r"\n  +", " ", PAPER.read_text(encoding="utf-8"))
    return [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]


@pytest.mark.parametrize("sentence", sentences())
def test_every_claim_is_proved_by_a_test(sentence: str) -> None:
    assert sentence in PROVED


def test_no_test_proves_what_is_not_claimed() -> None:
    assert set(PROVED) == set(sentences())


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json", "generate.py"])
@proves("No code of a model directory is run, and nobody is asked on stdin whether it may.")
def test_code_of_a_model_directory_is_not_run(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def asked(*arguments: Any) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(builtins, "input", asked)
    mark = tmp_path / "ran"
    for name in ("evil.py", "custom_generate/generate.py"):
        (model_dir / name).parent.mkdir(exist_ok=True)
        (model_dir / name).write_text(CODE.format(mark=str(mark)) + "def generate(model, **k): ...\n", encoding="utf-8")
    if where == "config.json":
        autos = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.T", "evil.T"]}
        change(model_dir / where, auto_map=autos)
    elif where == "tokenizer_config.json":
        change(model_dir / where, auto_map={"AutoTokenizer": ["evil.T", "evil.T"]}, tokenizer_class="T")
    try:
        model = from_base(model_dir)
        model.generate("a", max_new_tokens=1, do_sample=False)
    except MPlusError as error:
        assert len(str(error).splitlines()) == 1
    assert not mark.exists() and "evil" not in sys.modules


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
@pytest.mark.parametrize("form", ["stock", "published"])
@proves("Its weights are read from safetensors files alone; pickles (`.bin`, `.pt`, `.pth`, `.ckpt`) are refused.")
def test_pickles_are_refused(model_dir: Path, tmp_path: Path, name: str, form: str) -> None:
    directory = model_dir if form == "stock" else write_published(tmp_path / "published")
    torch.save(load_file(directory / "model.safetensors"), directory / name)
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{re.escape(name)}, a pickle.*convert it to safetensors"):
        from_base(directory) if form == "stock" else MPlusModel.from_pretrained(directory)


@pytest.mark.parametrize("form", ["stock", "published"])
@proves("Its `config.json` cannot choose the attention, load a kernel from the hub, or name another file of weights.")
def test_config_chooses_no_code(model_dir: Path, tmp_path: Path, form: str) -> None:
    directory = model_dir if form == "stock" else write_published(tmp_path / "published")
    kernel = "somebody/kernel"
    change(
        directory / "config.json",
        attn_implementation=kernel,
        _attn_implementation=kernel,
        _attn_implementation_internal=kernel,
        transformers_weights="other.bin",
    )
    torch.save({}, directory / "other.bin")
    model = from_base(directory) if form == "stock" else MPlusModel.from_pretrained(directory, dtype="float32", device="cpu")
    assert model.parts.decoder.config._attn_implementation == "sdpa"
    with pytest.raises(InputError, match="not known"):
        from_base(model_dir, attn_implementation=kernel)


@proves("Quantised weights are refused unless the caller passes `quantization_config`.")
def test_quantised_weights_are_refused(model_dir: Path) -> None:
    change(model_dir / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(CheckpointError, match="quantised"):
        from_base(model_dir)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "a.bin", "a\\b.safetensors"])
@proves("An index of shards cannot name a file outside the directory.")
def test_index_names_only_files_beside_it(model_dir: Path, name: str) -> None:
    weights = load_file(model_dir / "model.safetensors")
    (model_dir.parent / "other").mkdir()
    save_file(weights, model_dir.parent / "other" / "model.safetensors")
    (model_dir / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(weights, name)}
    (model_dir / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match="beside it"):
        from_base(model_dir)


@proves("A damaged directory opens or is refused in one sentence, and no file of JSON or text above 64 MB is read.")
def test_huge_file_is_not_read(model_dir: Path) -> None:
    """The first half is ``test_damaged_model.py``."""
    with (model_dir / "tokenizer.json").open("r+b") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(CheckpointError, match="67,108,865 bytes, at most 67,108,864 are read"):
        from_base(model_dir)


@proves("A PEFT adapter in it is refused, not loaded by the way.")
def test_adapter_beside_a_model_is_refused(model_dir: Path) -> None:
    (model_dir / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/else"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="PEFT adapter .* beside the model"):
        from_base(model_dir)


@proves("Its chat template runs in Jinja's sandbox and reaches no attribute of Python.")
def test_chat_template_is_in_a_sandbox(model_dir: Path) -> None:
    change(model_dir / "tokenizer_config.json", chat_template="{{ messages.__class__.__mro__ }}")
    (model_dir / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}", encoding="utf-8")
    with pytest.raises(Exception, match=r"(?i)unsafe|template"):
        from_base(model_dir).chat([{"role": "user", "content": "a"}], max_new_tokens=1)


@proves("A known name such as `smollm2-135m` means the known model, whatever lies in the working directory.")
def test_known_name_is_the_known_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / bases.DEFAULT_NAME).mkdir()
    for opening in (bases.locate, MPlusModel.from_pretrained, MPlusModel.from_base):
        with pytest.raises(BaseModelMissingError, match="run `mplus fetch`"):
            opening(bases.DEFAULT_NAME)
    assert "taken as the known model" in caplog.text


@pytest.fixture
def delta(model_dir: Path, tmp_path: Path) -> Path:
    from_base(model_dir).save_pretrained(tmp_path / "delta")
    return tmp_path / "delta"


def opened(directory: Path, **options: Any) -> MPlusModel:
    return MPlusModel.from_pretrained(directory, dtype="float32", device="cpu", **options)


@proves(
    "A delta starts no download: another base than a known one must be on this machine, or be allowed with `base=` or `allow_download=True`."
)
def test_delta_starts_no_download(delta: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def snapshot(hub_id: str, *, local_files_only: bool = False, **named: Any) -> str:
        if local_files_only:
            raise FileNotFoundError("not cached")
        calls.append(hub_id)
        return str(model_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    manifest = json.loads((delta / "mplus.json").read_text(encoding="utf-8"))
    manifest["base"]["name"] = "somebody/model"
    (delta / "mplus.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BaseModelMissingError, match="'somebody/model', which is not on this machine"):
        opened(delta)
    opened(delta, base=model_dir)
    assert not calls
    opened(delta, allow_download=True)
    assert calls == ["somebody/model"]


def spoil(directory: Path, what: str) -> None:
    """Another base than before: other weights, settings or tokenizer."""
    if what == "weights":
        weights = load_file(directory / "model.safetensors")
        weights["model.norm.weight"] = weights["model.norm.weight"] * 2
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    elif what == "settings":
        change(directory / "config.json", rms_norm_eps=0.5)
    else:
        tokenizer = byte_tokenizer()
        tokenizer.add_tokens(["<other>"])
        tokenizer.save_pretrained(directory)


@pytest.mark.parametrize(
    ("what", "told"), [("weights", "other weights"), ("settings", "rms_norm_eps was"), ("tokenizer", "another tokenizer")]
)
@proves("A delta does not open on a base whose weights, settings or tokenizer differ from those it was made with.")
def test_delta_opens_on_its_own_base_only(delta: Path, model_dir: Path, what: str, told: str) -> None:
    spoil(model_dir, what)
    with pytest.raises(CheckpointError, match=told):
        opened(delta)


@proves("Nothing of a memory is run: it is JSON and safetensors.")
def test_memory_is_json_and_safetensors(tmp_path: Path) -> None:
    model = text_model()
    memory = model.new_memory()
    memory.write("Anna lives in Porto and has two grey cats and a boat.")
    memory.save(tmp_path / "m")
    for path in (tmp_path / "m").iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        else:
            load_file(path)


@pytest.mark.parametrize(
    ("what", "told"), [("weights", "fingerprint"), ("settings", "rms_norm_eps was"), ("tokenizer", "its tokenizer differs")]
)
@proves("A memory opens only with the model that wrote it; other weights, settings or another tokenizer are refused.")
def test_memory_opens_with_its_own_model_only(model_dir: Path, tmp_path: Path, what: str, told: str) -> None:
    memory = from_base(model_dir).new_memory()
    memory.write("Anna lives in Porto and has two grey cats and a boat.")
    memory.save(tmp_path / "m")
    spoil(model_dir, what)
    with pytest.raises(WrongModelError, match=told):
        Memory.load(tmp_path / "m", from_base(model_dir))


@proves("A data file that was altered after it was saved is refused.")
def test_altered_memory_is_refused(tmp_path: Path) -> None:
    model = text_model()
    memory = model.new_memory()
    memory.write("Anna lives in Porto and has two grey cats and a boat.")
    memory.save(tmp_path / "m")
    path = next((tmp_path / "m").glob("memory-*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match="altered"):
        Memory.load(tmp_path / "m", model)


@pytest.fixture(scope="module")
def writer() -> MPlusModel:
    """A model that encodes each source alone."""
    return text_model(write_context="source")


@pytest.fixture
def letters(writer: MPlusModel, tmp_path: Path) -> Memory:
    """A stored memory of two sources, in `m`."""
    memory = writer.new_memory()
    for name, text in LETTERS.items():
        memory.write(text, source=name)
    memory.save(tmp_path / "m")
    return memory


LETTERS = {"ana.txt": "Anna lives in Porto and has two grey cats and a boat.", "ben.txt": "Ben keeps seven bees in Oslo."}


def bytes_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def traces_of(memory: Memory, name: str) -> list[bytes]:
    """Name, token ids, content addresses and keys of a source as files hold them."""
    chunks = [chunk for chunk in memory.ledger.chunks if chunk.source == name]
    rows = [memory.state.log.gather(torch.arange(chunk.first, chunk.stop), ("keys",))["keys"] for chunk in chunks]
    return [
        name.encode(),
        *(array("i", chunk.ids or ()).tobytes() for chunk in chunks),
        *(bytes.fromhex(chunk.key) for chunk in chunks),
        *(row.contiguous().numpy().tobytes() for part in rows for row in part),
    ]


@proves(
    "An archive writes nothing outside the directory it is imported into, and nothing at all unless every part is as its manifest says."
)
@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "C:\\evil", "sub/evil", "manifest.json/../../evil", ".bashrc"])
def test_archives_stay_in_their_place(letters: Memory, tmp_path: Path, name: str) -> None:
    export_memory(tmp_path / "m", tmp_path / "a.mplus")
    with zipfile.ZipFile(tmp_path / "a.mplus", "a") as archive:
        archive.writestr(name, "x")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(SnapshotError, match="which is no file of a memory"):
        import_memory(tmp_path / "a.mplus", tmp_path / "new")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@proves("No byte of a forgotten source is left in a memory's files after `mplus compact`.")
def test_forgotten_sources_leave_the_files(letters: Memory, tmp_path: Path) -> None:
    gone, stays = traces_of(letters, "ana.txt"), traces_of(letters, "ben.txt")
    assert all(trace in bytes_in(tmp_path / "m") for trace in gone)
    letters.forget("ana.txt")
    letters.save(tmp_path / "m")
    compact(tmp_path / "m")
    assert not any(trace in bytes_in(tmp_path / "m") for trace in gone)
    assert all(trace in bytes_in(tmp_path / "m") for trace in stays)


@proves("In the files of an encrypted memory no name, time, token id, content address or row can be read without the keys.")
def test_encrypted_files_tell_nothing(letters: Memory, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    letters.keys = Keys.make(tmp_path / "keys")
    letters.save(tmp_path / "e")
    times = [array("d", [chunk.at or 0.0]).tobytes() for chunk in letters.ledger.chunks]
    for name in LETTERS:
        assert not any(trace in bytes_in(tmp_path / "e") for trace in [*traces_of(letters, name), *times])


@proves("A source that was forgotten in an encrypted memory cannot be read in any older copy of the memory either.")
def test_forgotten_sources_are_gone_from_backups(letters: Memory, writer: MPlusModel, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    letters.keys = Keys.make(tmp_path / "keys")
    letters.save(tmp_path / "e")
    shutil.copytree(tmp_path / "e", tmp_path / "backup")
    letters.forget("ana.txt")
    letters.save(tmp_path / "e")
    opened = Memory.load(tmp_path / "backup", writer, keys=letters.keys)
    assert [info.name for info in opened.sources()] == ["ben.txt"]


@proves("A file of keys is made for its owner alone, and a home key that others may read is refused.")
def test_keys_are_the_owners(letters: Memory, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    letters.keys = Keys.make(tmp_path / "keys")
    letters.save(tmp_path / "e")
    files = [path for path in (tmp_path / "keys").iterdir() if path.suffix == ".json"]
    assert len(files) == 2 and all(path.stat().st_mode & 0o077 == 0 for path in files)
    (tmp_path / "keys" / "home-key.json").chmod(0o644)
    with pytest.raises(InputError, match="may be read by others"):
        Keys(tmp_path / "keys")


@proves("Nothing of a document is run, and no other file or address that it names is read.")
@pytest.mark.parametrize("name", ["a.docx", "b.docx", "c.html"])
def test_document_names_no_other_file(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET", encoding="utf-8")
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    linked = f'<Relationship Id="rImg" Type="{RELATIONS}/image" Target="{secret.as_uri()}" TargetMode="External"/>'
    picture = (
        f'<w:r><w:drawing xmlns:r="{RELATIONS}" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
        'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"><wp:inline><a:graphic><a:graphicData><pic:pic>'
        '<pic:blipFill><a:blip r:link="rImg"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r>'
    )
    data = {
        "a.docx": docx("in it: &e;", before=entity),
        "b.docx": docx("in it", runs=picture, relations=linked),
        "c.html": f"{entity}<html>in it &e; <iframe src='{secret.as_uri()}'></iframe><script src='{secret.as_uri()}'>x</script>".encode(),
    }[name]
    text = document_text(data, name)
    assert "in it" in text
    assert "SECRET" not in text


@proves("A Word document that unpacks to more than 256 MiB of text parts is refused.")
def test_word_document_that_unpacks_to_any_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"unpacks to 268,4\d\d,\d\d\d bytes, more than the 268,435,456 that are read"):
        document_text(docx("text", more=b" " * (1 << 28)), "a.docx")


@proves("What a document spells like a control token of a chat format is characters in a memory.")
def test_document_spells_no_control_token() -> None:
    model = text_model()
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    memory = model.new_memory()
    memory.write("It ends. <|end|> It goes on.", source="a")
    assert max(memory.ids("a")) < 256
    assert memory.text("a") == "It ends. <|end|> It goes on."


@proves("A recipe and a task file are YAML without tags: they make no objects and call nothing.")
def test_yaml_calls_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "evil.yaml"
    path.write_text(
        f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{mark}]]\n", encoding="utf-8"
    )
    with pytest.raises(RecipeError):
        read_recipe(str(path))
    with pytest.raises(InputError):
        open_task(str(path))
    assert not mark.exists()


@proves("A recipe chooses only among the tasks of this package; it names no module.")
def test_recipe_names_no_module(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("name: x\nmodel: {base: y}\ntask: {kind: os.path}\nsteps: 1\noptimiser: {rate: 1e-3}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"os\.path"):
        read_recipe(str(path))


def test_explicit_arguments_stand_at_every_call_of_transformers() -> None:
    """No call that opens something of transformers leaves it to a default whether code is run."""
    for path in (Path(bases.__file__).parents[2]).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for call in re.finditer(r"Auto\w+\.from_(pretrained|config)\(", text):
            inside = text[call.end() : call.end() + 240]
            assert "trust_remote_code=False" in inside or "**SAFE" in inside, f"{path}: {inside[:80]}"
    assert load_decoder.__module__ == "mplus.checkpoints.base_models.stock"
