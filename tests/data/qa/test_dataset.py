"""Question answering: answers are where the targets say, and both mixed forms are in one batch."""

import numpy as np
import pytest
from helpers.qa_data import SHIFT, make_qa_bin, questions

from ppa_fairseq.data.code_switching import CodeSwitch
from ppa_fairseq.data.qa.corpora import load_qa
from ppa_fairseq.data.qa.dataset import QADataset
from ppa_fairseq.data.sentence_pairs import PairLayout

COUNT = 30


@pytest.fixture(scope="module")
def qa_bin(tmp_path_factory, dictionary):
    return make_qa_bin(tmp_path_factory.mktemp("qa"), dictionary, {"train": COUNT, "valid": 9})


@pytest.fixture
def make_qa(qa_bin, dictionary):
    def build(languages=("en", "de", "fr"), train=("en", "de", "fr"), max_length=24, doc_stride=6, **settings):
        corpora = load_qa(str(qa_bin), "train", list(languages))
        layout = PairLayout(dictionary, max_length)
        return QADataset(corpora, list(range(len(corpora))), list(train), layout, doc_stride, seed=1, **settings)

    return build


def spelled(dataset, item):
    """(language of the question, of the context, question number, window as words, answer as words or None)."""
    tokens, target = item["tokens"].tolist(), item["target"].tolist()
    separator = tokens.index(8)
    question, window = tokens[1:separator], tokens[separator + 1 : -1]
    languages = [next(name for name in SHIFT if 0 <= part[0] - 10 - SHIFT[name] < 60) for part in (question, window)]
    assert item["token_types"].tolist() == [0] * (separator + 1) + [1] * (len(window) + 1)
    assert item["choices"].tolist() == [True] + [False] * separator + [True] * len(window) + [False]
    assert tokens[0] == 7 and tokens[-1] == 8 and len(tokens) == dataset.sizes[item["id"]] <= 24
    words = [word - 10 - SHIFT[languages[1]] for word in window]
    answer = None
    if target != [0, 0]:
        answer = [t - 10 - SHIFT[languages[1]] for t in tokens[target[0] : target[1] + 1]]
    key = [word - 10 - SHIFT[languages[0]] for word in question]
    return languages, key, words, answer


def test_every_target_is_the_answer(make_qa):
    """In every language and mixed form; a window that cuts the answer has none."""
    dataset = make_qa(switch=CodeSwitch())
    rows, seen = questions(COUNT, seed=len("train")), {}
    for index in range(len(dataset)):
        languages, key, words, answer = spelled(dataset, dataset[index])
        fitting = [n for n, (q, c, _) in enumerate(rows) if q == key and " ".join(map(str, words)) in joined(c)]
        assert fitting
        row = fitting[0]
        _, context, (first, last) = rows[row]
        begin = context.index(words[0])
        holds = begin <= first and last < begin + len(words)
        assert answer == (context[first : last + 1] if holds else None)
        seen.setdefault((*languages, row), []).append((begin, len(words)))
    assert set(seen) == {
        (q, c, row) for row in range(COUNT) for q in SHIFT for c in SHIFT if q == c or "en" in (q, c)
    }
    for (*_, row), windows in seen.items():
        covered = {place for begin, length in windows for place in range(begin, begin + length)}
        assert covered == set(range(len(rows[row][1])))


def joined(words):
    return " ".join(map(str, words))


@pytest.mark.parametrize("limits", [(None, 8), (None, 11), (200, None)])
@pytest.mark.parametrize("epoch", [1, 2])
def test_mixed_forms_share_a_batch(make_qa, limits, epoch):
    """One window of each form: beside a long question, dozens hold the answer."""
    dataset = make_qa(train=("de",), switch=CodeSwitch(0.7))
    dataset.set_epoch(epoch)
    mixed = set()
    for index in range(len(dataset)):
        languages, key, _, answer = spelled(dataset, dataset[index])
        if languages[0] != languages[1] and answer is not None:
            mixed.add((tuple(key), tuple(answer)))
    together = set()
    for batch in dataset.batch_by_size(dataset.ordered_indices(), *limits):
        forms = {}
        for index in batch:
            languages, key, _, answer = spelled(dataset, dataset[int(index)])
            if languages[0] != languages[1] and answer is not None:
                forms.setdefault((tuple(key), tuple(answer)), set()).add(tuple(languages))
        together |= {name for name, languages in forms.items() if languages == {("de", "en"), ("en", "de")}}
    assert together == mixed and COUNT * 0.4 < len(mixed) < COUNT * 0.95
    assert np.bincount(dataset.group).max() == 2


def test_batches_are_of_one_language(make_qa):
    dataset = make_qa(train=("en", "de"), by_language=True)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=5)
    assert sum(map(len, batches)) == len(dataset)
    for indices in batches:
        batch = dataset.collater([dataset[int(i)] for i in indices])
        assert len(set(batch["language"].tolist())) == 1
        assert len(batch["choices"]) == len(batch["net_input"]["tokens"]) == batch["ntokens"]
        assert batch["target"].shape == (len(indices), 2)
