"""Law of model files from elsewhere: whatever is spoilt in a directory, it opens, or one sentence says why not."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mplus import MPlusModel
from mplus.errors import MPlusError
from tests.published import write_published
from tests.tiny import byte_tokenizer, tiny_decoder, tiny_geometry

pytestmark = pytest.mark.slow

WORDS: list[Any] = [None, True, -1, 0, 1, 2**31, 1e300, 0.5, "", "x", "../..", [], [None], {}, {"a": []}, "nan", 10**39]
CASES_OF_FORM = 52


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A stock model, a delta with its base in it, and a published model."""
    root = tmp_path_factory.mktemp("whole")
    tiny_decoder(vocabulary=256).save_pretrained(root / "stock")
    byte_tokenizer().save_pretrained(root / "stock")
    parts: dict[str, Any] = {"key_width": 4, "read_lora": {"r": 2, "lora_alpha": 4}}
    model = MPlusModel.from_base(root / "stock", geometry=tiny_geometry(), dtype="float32", device="cpu", **parts)
    model.save_pretrained(root / "own", include_base=True)
    write_published(root / "published")
    return {form: root / form for form in ("stock", "own", "published")}


def spoilt(directory: Path, chance: random.Random) -> str:
    """Damage one file; says how."""
    path = chance.choice(sorted(path for path in directory.iterdir() if path.name != "README.md"))
    kinds = ["flip", "cut", "delete", "empty", "pipe", "directory", "noise"] + ["value"] * (6 if path.suffix == ".json" else 0)
    kind = chance.choice(kinds)
    content = bytearray(path.read_bytes())
    if kind == "value":
        data = json.loads(content)
        what = replace_one(data, chance)
        path.write_text(json.dumps(data), encoding="utf-8")
        return f"{path.name}: {what}"
    if kind == "flip":
        for _ in range(chance.choice([1, 3, 20])):
            content[chance.randrange(min(len(content), 4096))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[chance.randrange(len(content)) :]
    elif kind == "empty":
        content.clear()
    elif kind == "noise":
        content[:] = chance.randbytes(64)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind != "delete":
        path.write_bytes(content)
    return f"{path.name}: {kind}"


def replace_one(data: Any, chance: random.Random) -> str:
    """Put a senseless value into the place of one value, however deep."""
    places = list(inside(data))
    holder, key = chance.choice(places)
    value = chance.choice(WORDS)
    if isinstance(holder, dict) and chance.random() < 0.2:
        del holder[key]
        return f"without {key}"
    holder[key] = value
    return f"{key} = {value!r}"


def inside(data: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(data.items()) if isinstance(data, dict) else list(enumerate(data))[:5]:
        yield data, key
        if isinstance(value, (dict, list)):
            yield from inside(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["stock", "own", "published"])
@pytest.mark.parametrize("seed", range(CASES_OF_FORM))
def test_damaged_directory_opens_or_is_told_in_one_sentence(whole: dict[str, Path], tmp_path: Path, form: str, seed: int) -> None:
    directory = tmp_path / form
    shutil.copytree(whole[form], directory)
    what = spoilt(directory, random.Random(f"{form}{seed}"))
    try:
        if form == "stock":
            MPlusModel.from_base(directory, geometry=tiny_geometry(), dtype="float32", device="cpu")
        else:
            MPlusModel.from_pretrained(directory, dtype="float32", device="cpu")
    except MPlusError as error:
        assert len(str(error).splitlines()) == 1 and 20 < len(str(error)) < 900, f"{what}: {error}"
    except BaseException as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:300]}") from error


@pytest.mark.parametrize("form", ["stock", "own", "published"])
def test_undamaged_directory_opens(whole: dict[str, Path], form: str) -> None:
    if form == "stock":
        MPlusModel.from_base(whole[form], geometry=tiny_geometry(), dtype="float32", device="cpu")
    else:
        MPlusModel.from_pretrained(whole[form], dtype="float32", device="cpu")
