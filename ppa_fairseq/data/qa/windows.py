"""Windows over a context that is too long to fit beside its question, cut as `tokenizers` cuts them."""

import numpy as np

from ppa_fairseq.utils.errors import InputError


def check_window_sizes(max_length: int, doc_stride: int, specials: int) -> None:
    """Raise InputError unless a question and a window that advances fit into *max_length*."""
    if doc_stride < 0 or max_length - specials - doc_stride < 2:
        raise InputError(
            f"--max-length {max_length} with --doc-stride {doc_stride}: windows that share {max(doc_stride, 0)} "
            f"WordPieces need a length of {max(doc_stride, 0) + specials + 2} or more (the defaults are 384 and 128)"
        )


def kept_question(question_length, max_length: int, doc_stride: int, specials: int):
    """Return how many tokens of a question to keep; the length may be an array, (E,).

    Where `tokenizers` would raise, the question and the step of the window get half each of what the overlap leaves.
    """
    shared = max_length - specials - doc_stride
    return np.where(question_length < shared, question_length, shared // 2)


def cut_windows(question: np.ndarray, context: np.ndarray, max_length: int, doc_stride: int, specials: int):
    """Cut E contexts of these lengths into windows beside questions of these lengths; see `context_windows`.

    Returns (W,) each: the entry of E, the window's start and end, and how much of the question is kept.
    """
    kept = kept_question(question, max_length, doc_stride, specials)  # (E,)
    room = max_length - specials - kept
    step = room - doc_stride
    counts = np.where(context > room, -(-np.maximum(context - doc_stride, 1) // step), 1)
    entry = np.repeat(np.arange(len(counts)), counts)  # (W,)
    start = (np.arange(len(entry)) - np.repeat(np.cumsum(counts) - counts, counts)) * step[entry]
    return entry, start, np.minimum(start + room[entry], context[entry]), kept[entry]


def context_windows(
    question_length: int, context_length: int, max_length: int, doc_stride: int, specials: int = 3
) -> list[tuple[int, int]]:
    """Return the windows of one context as [start, end), in order; together they cover all of it.

    Lengths count tokens without specials; *max_length* counts the whole sequence with its *specials* (BERT: [CLS]
    question [SEP] context [SEP], 3; XLM-R: 4). The windows are those of `tokenizers` with truncation "only_second" and
    *doc_stride* as its stride; a question too long for that is cut to `kept_question`.
    """
    lengths = np.array([question_length]), np.array([context_length])
    _, start, end, _ = cut_windows(*lengths, max_length, doc_stride, specials)
    return list(zip(start.tolist(), end.tolist(), strict=True))
