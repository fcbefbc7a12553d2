"""F1 and exact match of answers, as the official scripts of MLQA and of SQuAD 1.1 define them.

Both compare the normalised words of a prediction and of an answer, and take the best over a question's answers. They
differ in the normalisation: SQuAD's is for English, and XQuAD and TyDiQA-GoldP use it in every language; MLQA's depends
on the language of the context.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import filterfalse

from ppa_fairseq.data.qa.squad import Question
from ppa_fairseq.utils.errors import InputError

METRICS = ("mlqa", "squad")
Words = Callable[[str], list[str]]


def any_of(articles: str) -> re.Pattern:
    return re.compile(rf"\b(?:{'|'.join(articles.split())})\b")


ENGLISH = any_of("a an the")
ARTICLES = {
    "ar": re.compile("ال"),  # also inside words, as in the official script
    "de": any_of("ein eine einen einem eines einer der die das den dem des"),
    "en": ENGLISH,
    "es": any_of("un una unos unas el la los las"),
    "hi": None,
    "vi": any_of("của là cái chiếc những"),
    "zh": None,
}
HAN = re.compile("([\u4e00-\u9fa5])")
ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_of(metric: str, language: str | None) -> Words:
    """The function by which *metric* ("mlqa" or "squad") splits an answer in *language* into normalised words.

    Raises InputError if MLQA's metric does not define the language; SQuAD's takes any.
    """
    if metric == "squad":
        return squad_words
    if language not in ARTICLES:
        raise InputError(
            f"MLQA's metric is defined for {', '.join(ARTICLES)}, not for {language or 'an unknown language'}; "
            "name the language as in de=FILE, or give --metric squad"
        )
    return lambda text: mlqa_words(text, language)


def squad_words(text: str) -> list[str]:
    """Lower-case, remove ASCII punctuation and English articles, split at white space."""
    return ENGLISH.sub(" ", text.lower().translate(ASCII_PUNCTUATION)).split()


def mlqa_words(text: str, language: str) -> list[str]:
    """Lower-case, remove punctuation and the language's articles, split at white space and each Han character."""
    text = "".join(filterfalse(is_punctuation, text.lower()))
    if articles := ARTICLES[language]:
        text = articles.sub(" ", text)
    if language == "zh":
        text = HAN.sub(r" \1 ", text)
    return text.split()


@cache
def is_punctuation(char: str) -> bool:
    """Unicode's punctuation, and ASCII's symbols such as $ and +."""
    return char in string.punctuation or unicodedata.category(char).startswith("P")


def f1(predicted: Sequence[str], answer: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, with their counts; 0 if both are empty."""
    common = (Counter(predicted) & Counter(answer)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(answer)
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class Scores:
    """The scores of N questions, in their order; a question without a prediction has 0 in both."""

    ids: list[str]  # N
    f1: list[float]  # N, each 0 to 1
    exact_match: list[bool]  # N


def score(questions: Sequence[Question], predictions: Mapping[str, str], words: Words) -> Scores:
    """Score *predictions* {question id: text} of questions that have answers, split by *words*."""
    scores = Scores([question.id for question in questions], [], [])
    for question in questions:
        predicted = words(predictions[question.id]) if question.id in predictions else None
        answers = [words(text) for text, _ in question.answers]
        scores.f1.append(0.0 if predicted is None else max(f1(predicted, answer) for answer in answers))
        scores.exact_match.append(predicted in answers)
    return scores


def percent(values: Sequence[float]) -> float:
    """The mean in percent, added from first to last as the official scripts do; sum() and fmean() round differently."""
    total = 0
    for value in values:
        total += value
    return 100.0 * total / len(values)
