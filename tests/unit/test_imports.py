"""Laws of the tree: imports go one way, each room knows only what it says it knows, importing changes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mplus

ROOT = Path(mplus.__file__).parent

ORDER: list[set[str]] = [
    {"errors"},
    {"runtime"},
    {"text"},
    {"settings", "corpus", "index"},
    {"memory"},
    {"retrieval"},
    {"trace"},
    {"attach"},
    {"checkpoints"},
    {"inference"},
    {"model"},
    {"training", "evaluation", "conversation"},
    {"demo"},
    {"server"},
    {"cli"},
    {"__main__"},
]
"""Rooms from the ground up: each may import itself and what stands on a lower line, never its neighbours."""

RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
ALLOWED = {("memory", "mplus.__version__"), ("server", "mplus.__version__")}
"""A stored memory notes the version that wrote it, a server tells its own; the package's ``__init__`` is the only place that knows it."""

WITHOUT = {
    "memory": {"transformers", "peft"},
    "text": {"transformers", "peft"},
    "retrieval": {"transformers", "peft"},
    "settings": {"torch"},
    "errors": {"torch"},
}
"""Rooms to packages they do not know."""


class Import(NamedTuple):
    """One imported module, with where it is imported."""

    path: Path
    line: int
    module: str

    @property
    def room(self) -> str:
        """The room it stands in."""
        return self.path.relative_to(ROOT).parts[0].removesuffix(".py")

    @property
    def target(self) -> str:
        """The room it brings in."""
        return self.module.split(".")[1]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT.parent)}:{self.line} imports {self.module}"


def imports() -> Iterator[Import]:
    """All imports of the package, those inside functions and TYPE_CHECKING included."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield Import(path, node.lineno, name.name)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno} has a relative import; name the room"
                module = node.module or ""
                for name in node.names:
                    yield Import(path, node.lineno, f"mplus.{name.name}" if module == "mplus" else module)


def own_imports() -> Iterator[Import]:
    """Imports of one room by another, the package's own ``__init__`` aside: it names what is public."""
    for found in imports():
        if found.module.startswith("mplus.") and found.path != ROOT / "__init__.py" and (found.room, found.module) not in ALLOWED:
            yield found


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} <= set(RANK), "put the new room into ORDER, at the lowest line it can stand on"


def test_imports_go_one_way() -> None:
    wrong = [
        f"{found}: {found.room} may not know {found.target}, which stands {'beside' if RANK[found.target] == RANK[found.room] else 'above'} it"
        for found in own_imports()
        if found.target != found.room and RANK[found.target] >= RANK[found.room]
    ]
    assert not wrong, "\n".join(wrong)


def test_leaves_know_nothing_but_the_ground() -> None:
    leaves = ORDER[3]
    ground = set().union(*ORDER[:3])
    wrong = [str(found) for found in own_imports() if found.room in leaves and found.target not in {found.room, *ground}]
    assert not wrong, "\n".join(wrong)


def test_rooms_do_not_know_what_they_say_they_do_not() -> None:
    wrong = [str(found) for found in imports() if found.module.split(".")[0] in WITHOUT.get(found.room, set())]
    assert not wrong, "\n".join(wrong)


def test_only_the_rooms_of_models_touch_transformers_internals() -> None:
    """Cache classes, masks and module internals change with transformers; one room answers for them, and the trainer for its own
    masks (a document that reads several chunks in one pass)."""
    inner = (
        "transformers.cache_utils",
        "transformers.masking_utils",
        "transformers.modeling_",
        "transformers.models",
        "peft.tuners",
    )
    wrong = [str(found) for found in imports() if found.module.startswith(inner) and found.room not in ("attach", "training")]
    assert not wrong, "\n".join(wrong)


def test_importing_the_package_is_light_and_changes_nothing() -> None:
    script = (
        "import os, sys, logging; before = dict(os.environ); import mplus; "
        "assert 'torch' not in sys.modules, 'torch was imported'; "
        "assert dict(os.environ) == before, 'the environment was changed'; "
        "assert not logging.getLogger().handlers and not logging.getLogger('mplus').handlers, 'logging was set up'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_public_names_are_imported_without_transformers() -> None:
    script = "import sys; from mplus import Geometry, Memory, MPlusModel; assert not {'transformers', 'peft'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
