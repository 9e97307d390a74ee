"""Yes or no in what a judge said, whatever it wraps it in. Knows no endpoint and no samples.

Models think aloud, answer in JSON, bold, with a label or in the language of the text. What says both or neither has no verdict.
"""

from __future__ import annotations

import json
from typing import Any, Final

import regex

from mplus.evaluation.word_lists import word_lists
from mplus.text.writing_systems import folded

_WORDS: Final = word_lists(__file__)
_YES, _NO, _YES_SIGNS, _NO_SIGNS = (_WORDS[name] for name in ("yes", "no", "yes signs", "no signs"))

_THOUGHT: Final = regex.compile(r"(?s)<(think|thinking|thought|reasoning|reflection|analysis)>.*?</\1>")
_THOUGHT_END: Final = regex.compile(
    r"(?s)^.*(?:</(?:think|thinking|thought|reasoning|reflection|analysis)>|◁/think▷|<\|message\|>)"
)
_OPEN_THOUGHT: Final = regex.compile(r"(?s)(?:<(?:think|thinking|thought|reasoning|reflection|analysis)>|◁think▷).*$")
_FENCED: Final = regex.compile(r"(?s)\{.*\}")
_MARKUP: Final = regex.compile(r"\\(?:boxed|text|textbf)\b|[*_`#>~{}$\"“”„«»「」『』]|<[^<>]{1,20}>")
_LABEL: Final = regex.compile(
    r"\b(?:answer|verdict|judge?ment|decision|result|conclusion|antwort|urteil|ergebnis|réponse|respuesta|risposta|resposta|ответ|вердикт)"
    r"(?:\s+is)?\s*[:：=–-]*\s*(?=\p{L})|(?:答案|判断|判定|结论|結論|回答|答え|답|판정)\s*(?:是|は|은|는)?\s*[:：=]?\s*(?=\p{L})"
)
_WORD: Final = regex.compile(r"[\p{L}\p{M}'’]+|&")
_EITHER: Final = regex.compile(r"[\p{L}\p{M}'’]+\s*[/|]")
_CLAIM: Final = regex.compile(
    r"\b(?:does not|doesn't|do not) (?P<no>agree|match)\b|\b(?P<yes>agrees|matches)\b"
    r"|\b(?:is|are) (?P<not>not )?(?:(?P<good>correct|right)|(?P<bad>incorrect|wrong))\b(?! answer)"
)
_FEW_WORDS: Final = 12


def score_of(said: str) -> int | None:
    """1 for yes, 0 for no; None where it is neither, or both."""
    spoken = _OPEN_THOUGHT.sub("", _THOUGHT_END.sub("", _THOUGHT.sub("", said)))
    if (found := _FENCED.search(spoken)) is not None and (score := _of_json(found[0])) is not None:
        return score
    text = _MARKUP.sub("", folded(spoken)).strip()
    if (score := _leading(text)) is not None:
        return score
    for label in reversed(list(_LABEL.finditer(text))):
        if (score := _leading(text[label.end() :])) is not None:
            return score
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and len(_WORD.findall(lines[-1])) <= 3 and (score := _leading(lines[-1])) is not None:
        return score
    return _claimed(text)


def thinks_on(said: str) -> bool:
    """Whether a text ends before the thinking aloud does."""
    return _OPEN_THOUGHT.search(_THOUGHT_END.sub("", _THOUGHT.sub("", said))) is not None


def _leading(text: str) -> int | None:
    """The verdict that a text begins with."""
    text = text.lstrip(" \t\r\n.,:;!?()[]-–—'=+|/")
    if text.startswith(_NO_SIGNS):
        return 0
    if text.startswith(_YES_SIGNS) and not text.startswith(("是否", "对不", "對不")):
        return 1
    words = [word.replace("’", "'").strip("'") for word in _WORD.findall(text)[:4]]
    if words and words[0] in _WORDS["not"] and len(words) > 1:
        return 0 if words[1] in _YES else None
    first = _value(words[0]) if words else None
    if first is None or (
        len(words) > 1 and words[0] in ("right", "correct", "wrong", "incorrect") and words[1] in _WORDS["nouns"]
    ):
        return None
    joined = len(words) > 2 and words[1] in _WORDS["joins"]
    other = words[2] if joined else words[1] if len(words) == 2 or _EITHER.match(text) else ""
    return None if _value(other) == 1 - first else first  # "yes and no", "yes/no", "yes, no"


def _value(word: str) -> int | None:
    return 1 if word in _YES else 0 if word in _NO else None


def _of_json(text: str) -> int | None:
    """The verdict of an object: of the key that is named for it, else of its only one."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    by_name = {str(key).lower(): value for key, value in data.items()}
    values = [by_name[key] for key in _WORDS["json keys"] if key in by_name] or (
        list(by_name.values()) if len(by_name) == 1 else []
    )
    return next((score for score in map(_of_value, values) if score is not None), None)


def _of_value(value: Any) -> int | None:
    if isinstance(value, (bool, int, float)):
        return int(value) if value in (0, 1) else None
    return _leading(folded(value)) if isinstance(value, str) else None


def _claimed(text: str) -> int | None:
    """The verdict of a short sentence such as "It does not agree."."""
    if len(_WORD.findall(text)) > _FEW_WORDS:
        return None
    claims = {
        1 if found["yes"] or (bool(found["good"]) and not found["not"]) or (bool(found["bad"]) and bool(found["not"])) else 0
        for found in _CLAIM.finditer(text)
    }
    return claims.pop() if len(claims) == 1 else None
