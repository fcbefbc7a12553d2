"""F1 and exact match against a plain re-statement of the official scripts' rules, and against cases done by hand."""

import pytest
from helpers.qa_by_hand import WORD_ARTICLES, f1_by_hand, words_by_hand
from hypothesis import example, given
from hypothesis import strategies as st

from ppa_fairseq.data.qa.squad import Question
from ppa_fairseq.evaluation.question_answering.metrics import ARTICLES, f1, percent, score, words_of
from ppa_fairseq.utils.errors import InputError

LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
PIECES = [
    *"abe ₀²ßİΣ,.'-_—«»،؟।。、$+<|`^~ \t\n\u3000\u00a0\u200b龥龦一〇é\u0301",
    "ال", "كتاب", "\u094d", "हिन्दी", "北京", "大学",
    *(word for words in WORD_ARTICLES.values() for word in words),
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=10).map("".join) | st.text(max_size=12)


@pytest.mark.parametrize("language", LANGUAGES)
@given(text=texts)
@example(text="The a-an THE_end")
@example(text="Das «Ein»mal der\tDEM")
@example(text="الكتاب والاول")
@example(text="北京,大学 abc大学2020年")
def test_words_follow_the_rules(language, text):
    for metric in ("mlqa", "squad"):
        assert words_of(metric, language)(text) == words_by_hand(text, metric, language)


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_f1_counts_words_as_often_as_they_stand(predicted, answer):
    assert f1(predicted, answer) == f1_by_hand(predicted, answer)


@pytest.mark.parametrize(
    ("metric", "language", "text", "expected"),
    [
        ("mlqa", "en", "The Beatles' “White Album”, an $8 LP", "beatles white album 8 lp"),
        ("squad", "en", "The Beatles' “White Album”, an $8 LP", "beatles “white album” 8 lp"),
        ("mlqa", "en", "Anthem of a the-atre", "anthem of theatre"),
        ("mlqa", "de", "Der Rhein, die Donau und eines", "rhein donau und"),
        ("squad", "de", "Der Rhein, die Donau: the end", "der rhein die donau end"),
        ("mlqa", "es", "El Niño y la Niña; unas ¿qué?", "niño y niña qué"),
        ("mlqa", "vi", "Cái nón lá của những người", "nón lá người"),
        ("mlqa", "ar", "الكتاب، العربي؟", "كتاب عربي"),
        ("mlqa", "ar", "العالمي", "ع مي"),  # removed inside a word, too
        ("mlqa", "hi", "दिल्ली। the a", "दिल्ली the a"),
        ("mlqa", "zh", "北京大学(Peking University)1898年", "北 京 大 学 peking university1898 年"),
        ("mlqa", "zh", "〇 龥龦", "〇 龥 龦"),  # the range ends at 9fa5
        ("mlqa", "en", "… — the", ""),
    ],
)
def test_words_by_hand(metric, language, text, expected):
    assert words_of(metric, language)(text) == expected.split()


def question(name: str, *answers: str) -> Question:
    return Question(name, "?", " ".join(answers), tuple((answer, 0) for answer in answers), f"file: question {name}")


def test_the_best_answer_counts_and_no_prediction_scores_nothing():
    questions = [
        question("1", "the red car", "a blue car"),
        question("2", "Paris"),
        question("3", "the"),
        question("4", "the", "Rome"),
        question("5", "x"),
    ]
    predictions = {"1": "Blue car there", "2": "in paris", "3": "…", "4": "a", "9": "?"}
    scores = score(questions, predictions, words_of("mlqa", "en"))
    assert scores.ids == list("12345")
    assert scores.f1 == pytest.approx([0.8, 2 / 3, 0, 0, 0])
    # Nothing is left of prediction and answer: no common word, but an exact match.
    assert scores.exact_match == [False, False, True, True, False]


def test_percent_adds_from_first_to_last():
    values = [0.1] * 10  # ten additions give 0.9999999999999999; an exact sum, 1.0
    assert percent(values) == 100.0 * 0.9999999999999999 / 10 != 10.0
    assert percent([True, False, True, True]) == 75.0


def test_a_language_without_a_metric_is_refused():
    assert set(ARTICLES) == set(LANGUAGES)
    for language in ("fr", None):
        with pytest.raises(InputError, match="MLQA's metric is defined for .*--metric squad"):
            words_of("mlqa", language)
        assert words_of("squad", language)("Le a B") == ["le", "b"]
