"""The best span of a window against a loop over all of them, and against transformers' way of looking for it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ppa_fairseq.evaluation.question_answering.spans import Span, best_spans


@st.composite
def windows(draw):
    """1 to 4 windows of 0 to 9 tokens; few different logits, so that many scores are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    levels = draw(st.sampled_from([2, 5, 1000]))
    return [rng.integers(-levels, levels, (length, 2)).astype(np.float32) / 4 for length in lengths]


@given(windows(), st.integers(1, 12))
def test_each_window_gives_the_best_of_all_its_spans(logits, max_answer_length):
    expected = []
    for window in logits:
        spans = [
            Span(start, end, float(window[start, 0] + window[end, 1]))
            for start in range(len(window))
            for end in range(start, min(start + max_answer_length, len(window)))
        ]
        expected.append(max(spans, key=lambda span: (span.score, -span.start, -span.end), default=None))
    assert best_spans(logits, max_answer_length) == expected


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
    ((start, end, score),) = best_spans([window], 30)
    assert (start, end) == transformers_best(window, 30, n_best=60)
    assert score == float(window[start, 0] + window[end, 1])  # in fp32, to the bit


def test_spans_beyond_the_20_best_starts_and_ends_are_found():
    """The best starts stand after the best ends: transformers' example has no answer here, or a worse one."""
    window = np.zeros((60, 2), dtype=np.float32)
    window[:20, 1], window[40:, 0] = 5, 5
    assert transformers_best(window, 30, n_best=20) is None
    assert best_spans([window], 30) == [Span(0, 0, 5.0)]
