"""Laws of the documents: links lead somewhere, every page is reachable, decisions have a status, the README stays short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mplus.settings import PATHS, RETIRED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
        *DOCS.rglob("*.md"),
        *(ROOT / "src/mplus/evaluation").rglob("*.md"),
    ]
)
DECISIONS = sorted((DOCS / "decisions").glob("0*.md"))
STATUS = re.compile(r"Status: (accepted|superseded (?:in part )?by \[(\d{4})\]|rejected)")

FOLDERS = ("src/", "tests/", "docs/", "benchmarks/", "experiments/", "recipes/", "examples/", ".github/", ".ci/")
FOREIGN = {"mplus.json", "models/base.py"}
"""A file of a delta, and one of the published repository."""
PAGES_OF_NOW = [page for page in PAGES if page not in DECISIONS or "Status: accepted" in page.read_text(encoding="utf-8")]
"""Notes on what was superseded or rejected keep the names of their time."""

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(```.*?^```|    [^\n]*)", re.DOTALL | re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """Links of a page that stay in the repository."""
    for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" not in target:
            yield target


def mentions(page: Path) -> Iterator[str]:
    """Words in backticks that look like files of the repository or modules of the package."""
    for text in re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text(encoding="utf-8"))):
        for word in text.split():
            bare = word.partition("::")[0]
            if bare in FOREIGN:
                continue
            if (
                bare.startswith(FOLDERS)
                or re.fullmatch(r"[\w./{},*-]+/[\w{},*-]+\.py", bare)
                or re.fullmatch(r"mplus(\.[a-z_]\w*)+", bare)
            ):
                yield bare


def exists(mention: str) -> bool:
    """Whether a mentioned file or module is there; `{a,b}`, `*` and names in capitals stand for some file."""
    if mention.startswith("mplus."):
        path, rest = ROOT / "src", mention.split(".")
        while rest and (path / rest[0]).is_dir():
            path, rest = path / rest[0], rest[1:]
        module = path / f"{rest[0]}.py" if rest and (path / f"{rest[0]}.py").exists() else path / "__init__.py"
        names = rest[1:] if module.name != "__init__.py" else rest
        return not names or re.search(rf"\b{names[0]}\b", module.read_text(encoding="utf-8")) is not None
    pattern = re.sub(r"\{[^}]*\}|(?<![a-z])[A-Z][A-Z_]+(?![a-z])|\.\.\.", "*", mention).rstrip("/")
    return any(
        next(root.glob(pattern), None) is not None for root in (ROOT, ROOT / "src", ROOT / "src/mplus", ROOT / "tests", DOCS)
    )


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            wrong.append(f"{link}: no such file")
        elif not target.is_relative_to(ROOT):
            wrong.append(f"{link}: outside the repository")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: no such heading")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES_OF_NOW, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    wrong = [mention for mention in mentions(page) if not exists(mention)]
    assert not wrong, ", ".join(wrong)


def test_every_page_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if link.partition("#")[0]]
    missing = [str(page.relative_to(ROOT)) for page in DOCS.rglob("*.md") if page not in seen]
    assert not missing, "no page leads to " + ", ".join(missing)


def test_every_decision_has_a_status_and_stands_in_the_index() -> None:
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    numbers = [page.name[:4] for page in DECISIONS]
    assert numbers == sorted(set(numbers)), "a number stands for one decision"
    for page in DECISIONS:
        title, empty, status = page.read_text(encoding="utf-8").split("\n")[:3]
        found = STATUS.match(status)
        assert found, f"{page.name}: the third line is {status!r}; expected a status"
        assert title.startswith(f"# {page.name[:4]} ")
        assert not empty
        if found[2]:
            assert found[2] in numbers
        word = found[1].replace("[", "").replace("]", "")
        row = f"| [{page.name[:4]}]({page.name}) | {title[7:]} | {word} |"
        assert row in index, f"the index lacks the line\n{row}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_the_settings_page_names_every_setting() -> None:
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    missing = [name for name in (*PATHS, *RETIRED) if f"`{name}`" not in page]
    assert not missing, f"docs/reference/settings.md lacks {', '.join(missing)}"


def test_both_forms_of_settings_on_the_page_are_equal() -> None:
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)
    *imports, groups, flat = ast.parse(block).body
    names: dict[str, object] = {}
    exec(compile(ast.Module(imports, []), "settings.md", "exec"), names)
    assert isinstance(groups, ast.Expr)
    assert isinstance(flat, ast.Expr)
    assert eval(ast.unparse(groups), names) == eval(ast.unparse(flat), names)


def typed_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Commands of a page's code blocks: the heading of the reference they belong to, and their options."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^(?:    )?mplus ([^#\n]*)", "\n".join(FENCED.findall(text)), re.MULTILINE):
        name, *rest = line.split()
        if name == "eval" and rest:
            name = f"eval {rest[0] if rest[0] in ('list', 'report', 'judge') else 'run'}"
        if name == "serve" and rest[:1] == ["keys"]:
            name = " ".join([name, *rest[:2]])
        yield f"mplus {name}", [word.partition("=")[0] for word in rest if word.startswith("--")]


def test_commands_of_the_documents_have_the_options_they_name() -> None:
    reference = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", reference, re.DOTALL | re.MULTILINE))
    wrong, seen = [], 0
    for page in PAGES:
        for command, options in typed_commands(page):
            seen += 1
            if command not in sections:
                wrong.append(f"{page.name}: {command}")
            elif command != "mplus bench":  # the benchmark of a checkout reads its own options
                wrong += [f"{page.name}: {command} {option}" for option in options if option not in sections[command]]
    assert seen > 40
    assert not wrong, "\n".join(wrong)
