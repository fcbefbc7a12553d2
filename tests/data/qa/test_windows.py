"""Windows are those that `tokenizers` cuts; a question too long for it is cut."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ppa_fairseq.data.qa.windows import check_window_sizes, context_windows, cut_windows, kept_question
from ppa_fairseq.utils.errors import InputError

LAYOUTS = {3: "[CLS] $A [SEP] $B:1 [SEP]:1", 4: "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1"}  # BERT's and XLM-R's


def their_windows(tokenizer, question_length, context_length):
    """Windows that `tokenizers` cuts of a context of one-letter words, as [start, end) of words."""
    first = tokenizer.encode(" ".join("q" * question_length), " ".join("c" * context_length))
    windows = []
    for encoding in (first, *first.overflowing):
        kept = [o for o, side in zip(encoding.offsets, encoding.sequence_ids, strict=True) if side == 1]
        windows.append((kept[0][0] // 2, kept[-1][1] // 2 + 1))
    return windows


@pytest.mark.parametrize("specials", LAYOUTS)
@pytest.mark.parametrize(("max_length", "doc_stride"), [(6, 0), (9, 3), (12, 1), (16, 8), (21, 6)])
def test_windows_are_those_of_tokenizers(specials, max_length, doc_stride):
    tokenizer = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "q": 2, "c": 3}, unk_token="[SEP]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special_tokens = [("[CLS]", 0), ("[SEP]", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(pair=LAYOUTS[specials], special_tokens=special_tokens)
    tokenizer.enable_truncation(max_length, stride=doc_stride, strategy="only_second")
    sizes = max_length, doc_stride, specials
    cases = windows = 0
    for question in range(1, max_length - specials - doc_stride):
        assert kept_question(question, *sizes) == question
        for context in range(1, 3 * max_length):
            found = context_windows(question, context, *sizes)
            assert found == their_windows(tokenizer, question, context)
            cases, windows = cases + 1, windows + len(found)
    assert windows > cases > 0


@pytest.mark.parametrize(("max_length", "doc_stride"), [(24, 6), (24, 0), (384, 128), (40, 33)])
def test_many_contexts_at_once_are_cut_like_each_alone(max_length, doc_stride):
    rng, sizes = np.random.default_rng(0), (max_length, doc_stride, 3)
    question, context = rng.integers(1, 60, 400), rng.integers(1, 900, 400)
    entry, start, end, kept = cut_windows(question, context, *sizes)
    expected = [(e, *w) for e in range(400) for w in context_windows(question[e], context[e], *sizes)]
    assert list(zip(entry.tolist(), start.tolist(), end.tolist(), strict=True)) == expected
    assert kept.tolist() == [kept_question(question[e], *sizes) for e in entry]


def test_a_question_too_long_for_tokenizers_is_cut():
    assert kept_question(252, 384, 128, 3) == 252
    assert context_windows(252, 500, 384, 128)[:2] == [(0, 129), (1, 130)]
    assert kept_question(253, 384, 128, 3) == 126
    assert context_windows(253, 500, 384, 128) == [(0, 255), (127, 382), (254, 500)]
    assert context_windows(9999, 500, 384, 128) == context_windows(253, 500, 384, 128)


@pytest.mark.parametrize(
    ("max_length", "doc_stride", "needed"), [(132, 128, 133), (384, 381, 386), (4, 0, 5), (384, -1, 5)]
)
def test_sizes_without_room_are_refused(max_length, doc_stride, needed):
    with pytest.raises(InputError, match=f"--max-length {max_length} .*need a length of {needed} or more"):
        check_window_sizes(max_length, doc_stride, 3)
    check_window_sizes(needed, max(doc_stride, 0), 3)
