"""Laws of scores in all scripts: an equal text is right, an answer is found as a word of its script, spelling does not count."""

from __future__ import annotations

import pytest

from mplus.evaluation.schedule.stream import Question
from mplus.evaluation.scoring.metrics import METRICS, abstains, chosen_option
from mplus.evaluation.systems.text import _words

WORDS = ("contained", "value")
SCORED = ("contained", "value", "exact", "f1", "share", "any", "rouge_l")


def asked(*answers: str, options: tuple[str, ...] = (), unanswerable: bool = False) -> Question:
    return Question(
        id="q",
        cluster="q",
        text="?",
        answers=answers,
        span=(0, 0),
        answer_span=(0, 0),
        options=options,
        unanswerable=unanswerable,
    )


def score(metric: str, said: str, *answers: str) -> float:
    if metric == "rouge_l":
        pytest.importorskip("rouge_score", reason="rouge-score is not installed (extra eval)")
    return METRICS[metric](said, asked(*answers))


SENTENCES = [
    ("他出生在北京市。", "北京"),
    ("彼は東京に住んでいます。", "東京"),
    ("ニューヨークに住む", "ニューヨーク"),
    ("トム・ハンクスです", "ハンクス"),
    ("그는 서울에서 태어났습니다.", "서울"),
    ("เขาเกิดที่กรุงเทพมหานคร", "กรุงเทพ"),
    ("ລາວເກີດຢູ່ວຽງຈັນ", "ວຽງຈັນ"),
    ("គាត់កើតនៅភ្នំពេញ", "ភ្នំពេញ"),
    ("वह दिल्ली में रहता है।", "दिल्ली"),
    ("وُلد في القاهرة، مصر.", "القاهرة"),
    ("הוא נולד בחיפה, ישראל", "ישראל"),
    ("Он живёт в Москве.", "москве"),
    ("Το σπίτι είναι στην Αθήνα;", "αθήνα"),
    ("他在2010年出生", "2010"),
    ("我们用Python写", "python"),
    ("Paris🎉", "Paris"),
]


@pytest.mark.parametrize(("said", "answer"), SENTENCES)
@pytest.mark.parametrize("metric", WORDS)
def test_an_answer_is_found_as_a_word_of_its_script(metric: str, said: str, answer: str) -> None:
    assert score(metric, said, answer) == 1.0


@pytest.mark.parametrize("metric", ["f1", "rouge_l"])
@pytest.mark.parametrize(("said", "answer"), SENTENCES)
def test_overlap_counts_words_of_every_script(metric: str, said: str, answer: str) -> None:
    assert 0 < score(metric, said, answer) < 1


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("party", "art"),
        ("インドネシア", "インド"),
        ("रामायण", "राम"),
        ("2010年", "201"),
        ("12345", "٢٣٤"),
        ("Großstadt", "Stadt"),
        ("上海", "北京"),
    ],
)
@pytest.mark.parametrize("metric", WORDS)
def test_a_part_of_a_word_or_number_is_not_the_answer(metric: str, said: str, answer: str) -> None:
    assert score(metric, said, answer) == 0.0


@pytest.mark.parametrize(
    "text",
    ["北京", "東京タワー", "서울", "กรุงเทพ", "दिल्ली", "القاهرة", "חיפה", "Größe", "🎉", "👨‍👩‍👧", "?!", "A", "the", "→", "१९१२"],
)
@pytest.mark.parametrize("metric", SCORED)
def test_an_equal_text_is_right_in_every_metric(metric: str, text: str) -> None:
    assert score(metric, text, text) == 1.0


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("War\u200bsaw\ufeff.", "Warsaw"),  # zero-width space, byte order mark
        ("\u202aWarsaw\u202c", "warsaw"),  # directions
        ("War\u00adsaw", "Warsaw"),  # soft hyphen
        ("cafe\u0301", "caf\u00e9"),
        ("Ｗａｒｓａｗ", "Warsaw"),
        ("ｶﾞｰﾅ", "ガーナ"),
        ("١٩١٢", "1912"),
        ("१९१२", "1912"),
        ("１９１２", "1912"),
        ("STRASSE", "Straße"),
        ("İSTANBUL", "istanbul"),
        ("ISPARTA", "ısparta"),
        ("كِتَاب", "كتاب"),
        ("שָׁלוֹם", "שלום"),
        ("❤\ufe0f", "❤"),
        ("「北京」", "北京"),
        ("北 京", "北京"),
        ("Όχι·", "όχι"),
        ("ΟΔΟΣ", "οδος"),
        ("−5", "-5"),
    ],
)
@pytest.mark.parametrize("metric", ["contained", "value", "exact", "f1", "any"])
def test_spelling_does_not_count(metric: str, said: str, answer: str) -> None:
    assert score(metric, said, answer) == 1.0


@pytest.mark.parametrize("said", ["1,234,567", "12,34,567", "1234567", "١٬٢٣٤٬٥٦٧"])
def test_thousands_may_be_set_apart(said: str) -> None:
    assert score("value", said, "1234567") == 1.0 and score("value", said, "234567") == 0.0


def test_an_answer_of_nothing_visible_is_never_found() -> None:
    assert all(score(metric, "anything", "\u200b") == 0.0 for metric in SCORED)
    assert score("contained", "It is a dog", "A") == score("contained", "What?!", "?!") == 0.0


@pytest.mark.parametrize(
    "said",
    [
        "不知道。",
        "分かりません。",
        "모르겠습니다",
        "ไม่ทราบ",
        "पता नहीं",
        "لا أعرف",
        "Не знаю",
        "Das weiß ich nicht bzw. unbekannt",
        "No lo sé.",
    ],
)
def test_not_knowing_is_understood_in_other_languages(said: str) -> None:
    assert abstains(said)


@pytest.mark.parametrize("said", ["答案是B。", "Ｂ", "（Ｂ）", "選択肢はBです", "B"])
def test_a_letter_beside_other_scripts_names_an_option(said: str) -> None:
    assert chosen_option(said, ("一", "二")) == 1
    assert chosen_option("我选二。", ("一", "二")) == 1


def test_bm25_has_signs_for_words_where_there_are_no_spaces() -> None:
    assert _words("他在北京。 In Café_2 ロンドンで") == ["他", "在", "北", "京", "in", "café_2", "ロンドン", "で"]
