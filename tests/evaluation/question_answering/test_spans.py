"""The best spans against a loop over all of them, and against transformers' way of looking for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppa_fairseq.evaluation.question_answering.spans import Span, best_spans, probabilities, window_spans


def all_spans(window, max_answer_length) -> list[Span]:
    """Every valid span of one window (L, 2), best first; of equal scores the earliest start, then the earliest end."""
    spans = []
    for start in range(len(window)):
        for end in range(len(window)):
            if start <= end and end - start + 1 <= max_answer_length:
                spans.append(Span(start, end, float(window[start, 0] + window[end, 1])))
    return sorted(spans, key=lambda span: (-span.score, span.start, span.end))


@st.composite
def windows(draw):
    """1 to 4 windows of 0 to 9 WordPieces; few different logits, so that many scores are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    levels = draw(st.sampled_from([2, 5, 1000]))
    return [rng.integers(-levels, levels, (length, 2)).astype(np.float32) / 4 for length in lengths]


@given(windows(), st.integers(1, 12), st.integers(1, 60))
def test_each_window_gives_its_best_spans(logits, max_answer_length, count):
    found = window_spans(logits, max_answer_length, count)
    assert found == [all_spans(window, max_answer_length)[:count] for window in logits]


@given(windows(), st.integers(1, 12), st.integers(1, 30), st.data())
def test_a_question_gets_its_best_spans_over_all_windows(logits, max_answer_length, count, data):
    """A span that two windows hold counts once, with its higher score."""
    firsts = [data.draw(st.integers(0, 6)) for _ in logits]
    highest = {}
    for first, window in zip(firsts, logits, strict=True):
        for start, end, score in all_spans(window, max_answer_length):
            place = (first + start, first + end)
            highest[place] = max(highest.get(place, -1e9), score)
    expected = sorted((-score, *place) for place, score in highest.items())[:count]
    shifted = [
        Span(first + start, first + end, score)
        for first, spans in zip(firsts, window_spans(logits, max_answer_length, count), strict=True)
        for start, end, score in spans
    ]
    for spans in (shifted, shifted[::-1]):  # whatever the order of the windows
        assert [(-score, start, end) for start, end, score in best_spans(spans, count)] == expected


def transformers_best(window, max_answer_length, n_best) -> tuple[int, int] | None:
    """Place of the best span among the n_best highest starts × the n_best highest ends, as the QA example looks."""
    best = {}
    for start in np.argsort(window[:, 0])[::-1][:n_best]:
        for end in np.argsort(window[:, 1])[::-1][:n_best]:
            if start <= end < start + max_answer_length:
                best[int(start), int(end)] = window[start, 0] + window[end, 1]
    return max(best, key=best.get) if best else None


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_transformers_finds_the_same_where_it_looks_far_enough(seed):
    window = np.random.default_rng(seed).normal(size=(60, 2)).astype(np.float32)
    (((start, end, score),),) = window_spans([window], 30)
    assert (start, end) == transformers_best(window, 30, n_best=60)
    assert score == float(window[start, 0] + window[end, 1])  # in fp32, to the bit


def test_spans_beyond_the_20_best_starts_and_ends_are_found():
    """The best starts stand after the best ends: transformers' example has no answer here, or a worse one."""
    window = np.zeros((60, 2), dtype=np.float32)
    window[:20, 1], window[40:, 0] = 5, 5
    assert transformers_best(window, 30, n_best=20) is None
    assert window_spans([window], 30) == [[Span(0, 0, 5.0)]]


def test_nothing_has_no_spans():
    assert window_spans([], 30) == []
    assert window_spans([np.zeros((0, 2), dtype=np.float32)], 30) == [[]]
    assert best_spans([]) == [] and probabilities([]) == []


def test_probabilities_are_a_softmax_of_scores():
    spans = [Span(0, 0, 1003.0), Span(1, 1, 1002.0), Span(2, 5, 1000.0)]
    powers = np.exp([3.0, 2.0, 0.0])
    assert probabilities(spans) == pytest.approx(list(powers / powers.sum()))
