"""Code-switching: which examples are mixed with English, and both forms of one share a batch."""

import numpy as np
import pytest
from fairseq.data import data_utils

from ppa_fairseq.data.code_switching import CodeSwitch, mix
from ppa_fairseq.data.pair_dataset import PairDataset
from ppa_fairseq.utils.errors import InputError

LANGUAGES = ["en", "de", "fr"]
ROWS = {language: np.arange(count) for language, count in zip(LANGUAGES, (50, 50, 40), strict=True)}


def entries(mixture):
    return list(zip(mixture.first.tolist(), mixture.second.tolist(), mixture.row.tolist(), strict=True))


def mixed(mixture):
    return [entry for entry in entries(mixture) if entry[0] != entry[1]]


def draw(switch, epoch=1, seed=1, rows=ROWS, english=ROWS["en"]):
    return mix(LANGUAGES, rows, english, switch, seed, epoch)


def test_without_switch_every_example_comes_once():
    assert entries(draw(None)) == [(n, n, row) for n, name in enumerate(LANGUAGES) for row in ROWS[name]]


def test_both_mixed_forms_of_an_example_are_one_group():
    mixture = draw(CodeSwitch())
    assert sorted(mixed(mixture)) == sorted(
        form for n in (1, 2) for row in ROWS[LANGUAGES[n]] for form in ((n, 0, row), (0, n, row))
    )
    assert len(entries(mixture)) == 50 + 3 * 50 + 3 * 40
    groups = {}
    for entry, group in zip(entries(mixture), mixture.group.tolist(), strict=True):
        groups.setdefault(group, []).append(entry)
    assert sorted(groups) == list(range(50 + 2 * 50 + 2 * 40))
    for group in groups.values():
        if len(group) == 2:
            (first, english, row), other = group
            assert english == 0 and other == (0, first, row) and first > 0
        else:
            assert len(group) == 1 and group[0][0] == group[0][1]


@pytest.mark.parametrize(("switch", "form"), [(CodeSwitch(second=False), (0, 1)), (CodeSwitch(first=False), (1, 0))])
def test_one_half_alone(switch, form):
    assert [entry[:2] for entry in mixed(draw(switch)) if 1 in entry[:2]] == [form] * 50


def test_probability_draws_examples_anew_each_epoch():
    many = {"en": np.arange(4000), "de": np.arange(4000)}
    switch = CodeSwitch(probability=0.3)
    epochs = [mixed(draw(switch, epoch, rows=many, english=many["en"])) for epoch in (1, 2, 1)]
    assert len(epochs[0]) / 8000 == pytest.approx(0.3, abs=0.03)
    assert epochs[0] == epochs[2] != epochs[1]
    both = set(epochs[0])
    assert all((second, first, row) in both for first, second, row in epochs[0])
    assert mixed(draw(switch, seed=2, rows=many, english=many["en"])) != epochs[0]


def test_an_example_without_english_is_not_mixed():
    mixture = draw(CodeSwitch(), rows={"de": np.array([0, 3, 7])}, english=np.array([3, 4]))
    assert mixed(mixture) == [(1, 0, 3), (0, 1, 3)] and len(entries(mixture)) == 5


class Groups(PairDataset):
    def __init__(self, counts, seed=0, languages=None):
        rng = np.random.default_rng(seed)
        self.group = np.repeat(np.arange(len(counts)), counts)
        self.sizes = rng.integers(3, 40, len(self.group))
        self.language = None if languages is None else self.group % languages


@pytest.mark.parametrize("limits", [(None, 7), (None, 8), (160, None), (300, 9), (None, None)])
@pytest.mark.parametrize("seed", range(5))
def test_no_batch_divides_a_group(limits, seed):
    """Over shuffles, odd batch sizes and token limits; every item once, no limit passed, no batch needlessly small."""
    max_tokens, max_sentences = limits
    dataset = Groups(np.random.default_rng(seed).integers(1, 4, 90), seed)
    with data_utils.numpy_seed(seed):
        batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens, max_sentences)
    assert sorted(np.concatenate(batches)) == list(range(len(dataset)))

    def fits(batch):
        tokens = len(batch) * dataset.sizes[batch].max()
        return tokens <= (max_tokens or 10**9) and len(batch) <= (max_sentences or 10**9)

    for number, batch in enumerate(batches):
        groups, counts = np.unique(dataset.group[batch], return_counts=True)
        assert (counts == np.bincount(dataset.group)[groups]).all()
        assert fits(batch)
        if number + 1 < len(batches):
            following = batches[number + 1]
            group = following[dataset.group[following] == dataset.group[following[0]]]
            assert not fits(np.concatenate([batch, group]))


@pytest.mark.parametrize(("max_tokens", "max_sentences"), [(None, 8), (150, None), (200, 5)])
def test_single_items_are_batched_as_fairseq_does(max_tokens, max_sentences):
    dataset = Groups(np.ones(200, dtype=int))
    order = dataset.ordered_indices()
    assert (np.diff(dataset.sizes[order]) >= 0).all()
    ours = dataset.batch_by_size(order, max_tokens, max_sentences)
    theirs = data_utils.batch_by_size(order, dataset.num_tokens, dataset.sizes[order], max_tokens, max_sentences)
    assert [batch.tolist() for batch in ours] == [list(batch) for batch in theirs]


def test_a_batch_is_of_one_language():
    dataset = Groups(np.ones(60, dtype=int), languages=3)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=7)
    assert all(len(set(dataset.language[batch])) == 1 for batch in batches)
    assert sorted(np.concatenate(batches)) == list(range(60))


@pytest.mark.parametrize("limits", [(None, 1), (20, None)])
def test_a_group_over_the_limits_is_refused(limits):
    with pytest.raises(InputError, match=r"2 sequences of up to \d+ tokens must share a batch: set --batch-size to 2"):
        dataset = Groups(np.array([2, 2, 1]))
        dataset.batch_by_size(dataset.ordered_indices(), *limits)
