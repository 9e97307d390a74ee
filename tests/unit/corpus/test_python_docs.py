"""Laws of the prose that Python carries: long, in paragraphs, without code, the same every time."""

from __future__ import annotations

import pytest

from mplus.corpus.python_docs import python_text

pytestmark = pytest.mark.slow


def test_python_text_is_long_prose_in_paragraphs() -> None:
    text = python_text()
    assert len(text) > 1_250_000  # more than 300,000 tokens
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert ">>>" not in text and "::=" not in text
    assert python_text() == text
