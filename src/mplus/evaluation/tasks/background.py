"""Running text in which generated tasks hide what they ask about. Knows files, no tokens.

Files or directories that a run names; else what every Python carries, so that a task runs anywhere.
"""

from __future__ import annotations

from pathlib import Path

from mplus.corpus.python_docs import python_text
from mplus.errors import EmptyTextError
from mplus.evaluation.tasks.context import TaskContext
from mplus.text.files import read_text


def background_text(context: TaskContext) -> str:
    """The text of all files, one behind the other; of a directory its .txt files.

    Raises:
        InputError: there is no such file.
        EmptyTextError: there is no text in any.
    """
    if not context.haystack:
        return python_text()
    files: list[Path] = []
    for path in context.haystack:
        files += sorted(path.glob("*.txt")) if path.is_dir() else [path]
    text = "\n\n".join(map(read_text, files))
    if not text.strip():
        raise EmptyTextError(f"the text for task '{context.task.task}' is empty; give running text of at least 2,000 tokens")
    return text
