"""A tiny directory of training data in the form of ``shared/data``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mplus.training.data.running import BOOKS

STORY_FILE = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel went back to the hallway.
5 Sandra moved to the garden.
6 Where is Daniel? \thallway\t4
1 John took the milk there.
2 John travelled to the office.
3 Mary went home.
4 Where is the milk? \toffice\t2 1
"""
STORIES = """1 Mary moved to the bathroom.
2 John took the milk there.
3 Mary went back to the garden.
4 Where is Mary? \tgarden\t3
5 John went to the hallway.
6 Where is the milk?\thallway\t2 5
"""
ARTICLES = [f"Town {number}" for number in range(60)]


def passage_of(title: str) -> str:
    return f"{title} lies by the sea. Its mayor is called Ann {title}. The old mill of {title} burnt down in 1834, they say."


def squad_of(titles: list[str]) -> dict[str, Any]:
    def article(title: str) -> dict[str, Any]:
        text = passage_of(title)
        qas = [
            {
                "question": f"Who is the mayor of {title}?",
                "answers": [{"text": f"Ann {title}", "answer_start": text.index("Ann")}],
            }
        ]
        return {"title": title, "paragraphs": [{"context": text, "qas": qas}]}

    return {"data": [article(title) for title in titles]}


def write_training_data(root: Path) -> Path:
    """Novels, passages with questions and instructions under `root`."""
    for name in (
        "boolq",
        "narrativeqa",
        "haystack/books",
        "squad",
        "squadshifts",
        "natural_questions",
        "instructions",
        "babi/en",
    ):
        (root / name).mkdir(parents=True)
    for book in BOOKS:
        text = "".join(f"In {book}, chapter {number}, nothing much happened until the evening came. " for number in range(400))
        (root / "haystack" / "books" / f"{book}.txt").write_text(text, encoding="utf-8")
    (root / "squadshifts" / "new_wiki_v1.0.json").write_text(json.dumps(squad_of(ARTICLES)), encoding="utf-8")
    (root / "squad" / "train-v1.1-slice.json").write_text(json.dumps(squad_of([])), encoding="utf-8")
    (root / "squad" / "dev-v2.0-part.json").write_text(json.dumps(squad_of(["Town_7"])), encoding="utf-8")
    nq = [
        {"question": f"who runs {title}", "answers": [f"Ann {title}"], "ctxs": [{"title": title, "text": passage_of(title)}]}
        for title in ARTICLES
    ]
    (root / "natural_questions" / "nq-open-oracle-part.jsonl").write_text("\n".join(map(json.dumps, nq)), encoding="utf-8")
    dolly = [
        {
            "id": number,
            "instruction": "When did it burn?",
            "context": passage_of("Aston") if number % 2 else "",
            "response": "1834.",
        }
        for number in range(60)
    ]
    dolly.append({"id": 61, "instruction": "Is it?", "context": passage_of("Aston"), "response": "ill"})  # only inside "mill"
    (root / "instructions" / "dolly-15k-cut5000.jsonl").write_text("\n".join(map(json.dumps, dolly)), encoding="utf-8")
    write_queries(root)
    for subtask in ("qa1", "qa2", "qa3"):
        (root / "babi" / "en" / f"{subtask}_some-facts_train.txt").write_text(STORIES, encoding="utf-8")
    return root


def write_queries(root: Path) -> None:
    """BoolQ's and NarrativeQA's files under `root`; the latter's test file has titles of its own."""
    boolq = [
        {
            "question": f"is there a fair in {title}",
            "title": title,
            "answer": "True" if number % 2 else "False",
            "passage": f"Every autumn the people of {title} meet in the market square. They dance until morning.",
        }
        for number, title in enumerate(ARTICLES)
    ]
    (root / "boolq" / "dev-part.jsonl").write_text("\n".join(map(json.dumps, boolq)), encoding="utf-8")
    for name in ("valid", "test"):
        told = [
            {
                "wiki_title": f"The {name} of {title}",
                "summary": "A boat sinks . " * 60
                + f"Then the captain of {title} s harbour finds a purple lamp . "
                + "It rains . " * 90,
                "qas": [
                    {"question": "WHAT DOES THE CAPTAIN FIND ?", "answers": ["A PURPLE LAMP.", "a lamp"]},
                    {"question": "What sinks ?", "answers": ["a boat"]},
                ],
            }
            for title in ARTICLES
        ]
        (root / "narrativeqa" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, told)), encoding="utf-8")
