"""Windows over a context that is too long to stand beside its question, as `tokenizers` cuts them."""

from ppa_fairseq.utils.errors import InputError


def check_window_sizes(max_length: int, doc_stride: int, specials: int) -> None:
    """Raise InputError unless a question and a window that moves fit into *max_length*."""
    if doc_stride < 0 or max_length - specials - doc_stride < 2:
        raise InputError(
            f"--max-length {max_length} with --doc-stride {doc_stride}: windows that share {max(doc_stride, 0)} "
            f"WordPieces need a length of {max(doc_stride, 0) + specials + 2} or more (the defaults are 384 and 128)"
        )


def kept_question(question_length: int, max_length: int, doc_stride: int, specials: int) -> int:
    """How many WordPieces of a question stay. All do if `tokenizers` can make windows beside it.

    Else (it would raise) the question and the step of the window share what the overlap leaves, half each.
    """
    shared = max_length - specials - doc_stride
    return question_length if question_length < shared else shared // 2


def context_windows(
    question_length: int, context_length: int, max_length: int, doc_stride: int, specials: int = 3
) -> list[tuple[int, int]]:
    """Windows of a context in WordPieces, as [start, end), in order; together they hold all of it.

    Lengths are in WordPieces, without specials; *max_length* counts the whole sequence with its *specials*
    (BERT: [CLS] question [SEP] context [SEP], 3; XLM-R: 4). Consecutive windows share *doc_stride* WordPieces
    (transformers' meaning of it). The windows are those of `tokenizers` with truncation "only_second", *doc_stride* as
    its stride and overflowing tokens; a question too long for that is cut to `kept_question`.
    Raises InputError on sizes that `check_window_sizes` refuses.
    """
    check_window_sizes(max_length, doc_stride, specials)
    room = max_length - specials - kept_question(question_length, max_length, doc_stride, specials)
    last = max(context_length - doc_stride, 1)  # a window from here on would hold nothing new
    starts = range(0, last, room - doc_stride) if context_length > room else range(1)
    return [(start, min(start + room, context_length)) for start in starts]
