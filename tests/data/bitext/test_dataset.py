"""Batches: what is in them, and that randomness is a function of (seed, epoch, index)."""

import numpy as np
import pytest
import torch

from ppa_fairseq.data.counter_random import uniform
from ppa_fairseq.data.sampling import epoch_counts, epoch_rows


def sequences(packed, name="tokens"):
    return [part.tolist() for part in packed[name].split(packed["lengths"])]


def unmasked(batch):
    tokens = batch["net_input"]["query_input"]["tokens"].clone()
    tokens[batch["net_input"]["masked"]] = batch["target"]
    return [part.tolist() for part in tokens.split(batch["net_input"]["query_input"]["lengths"])]


def test_a_batch_spelled_out(make_dataset, dictionary):
    dataset = make_dataset()
    batch = dataset.collater([dataset[i] for i in range(len(dataset))])
    cls, n = dictionary.bos(), len(dataset)
    keys, queries = sequences(batch["net_input"]["key_input"]), unmasked(batch)
    assert batch["swapped"].any() and not batch["swapped"].all()
    for i in range(n):
        sides = [dataset[i]["source"].tolist(), dataset[i]["target"].tolist()]
        query, key = sides[::-1] if batch["swapped"][i] else sides
        assert queries[i] == [cls, *query]
        assert keys[i] == [cls, *key]
        assert queries[n + i] == [cls, *query, *key]
    types = sequences(batch["net_input"]["query_input"], "token_types")
    positions = sequences(batch["net_input"]["query_input"], "positions")
    for i in range(n):
        query, whole = len(queries[i]), len(queries[n + i])
        assert types[i] == [0] * query and types[n + i] == [0] * query + [1] * (whole - query)
        assert positions[n + i] == list(range(whole))
    assert batch["nsentences"] == n and batch["ntokens"] == sum(len(k) - 1 + len(q) - 1 for k, q in zip(keys, queries))  # noqa: B905


def test_masks_take_their_shares_of_tlm_sequences_and_never_special_tokens(make_dataset, dictionary):
    """15 % of the WordPieces; of these 80 % [MASK], 10 % another item, 10 % as they were."""
    dataset = make_dataset({"de-en": 4000})
    batch = dataset.collater([dataset[i] for i in range(4000)])
    packed, masked, target = (*map(batch["net_input"].get, ("query_input", "masked")), batch["target"])
    assert masked.min() >= sum(packed["lengths"][:4000])  # queries are whole
    assert not set(target.tolist()) & {dictionary.bos(), dictionary.eos(), dictionary.pad()}
    after = packed["tokens"][masked]
    assert len(after) / (batch["ntokens"] - 2 * 4000) == pytest.approx(0.15, abs=0.01)
    hidden, kept = after == dictionary.mask(), after == target
    assert hidden.float().mean() == pytest.approx(0.8, abs=0.015)
    assert kept.float().mean() == pytest.approx(0.1 + 0.1 / 200, abs=0.012)
    drawn, allowed = set(after[~hidden & ~kept].tolist()), set(dictionary.random_ids())
    assert drawn <= allowed and len(drawn) > 0.8 * len(allowed)


def test_every_sequence_is_masked_and_none_too_much(make_dataset):
    dataset = make_dataset({"de-en": 300})
    for i in range(300):
        batch = dataset.collater([dataset[i]])
        wordpieces = batch["ntokens"] - 2
        assert max(1, int(0.15 * wordpieces)) <= len(batch["target"]) <= int(0.15 * wordpieces) + 1


def test_masks_do_not_depend_on_the_batch(make_dataset):
    """The same pair gets the same shuffle and mask alone, in company, in another order; after a new start."""
    dataset, again = make_dataset(), make_dataset()
    together = dataset.collater([dataset[i] for i in (4, 2, 7)])
    alone = again.collater([again[2]])
    assert sequences(alone["net_input"]["query_input"])[1] == sequences(together["net_input"]["query_input"])[4]
    assert alone["swapped"][0] == together["swapped"][1]


@pytest.mark.parametrize("change", ["epoch", "seed"])
def test_masks_and_shuffle_are_new_with_epoch_and_seed(make_dataset, change):
    one, other = make_dataset({"de-en": 60}), make_dataset({"de-en": 60}, seed=2 if change == "seed" else 1)
    if change == "epoch":
        other.set_epoch(2)
    first, second = (d.collater([d[i] for i in range(60)]) for d in (one, other))
    assert not torch.equal(first["swapped"], second["swapped"])
    masks = [set(b["net_input"]["masked"].tolist()) for b in (first, second)]
    assert len(masks[0] & masks[1]) < 0.5 * len(masks[0])


def test_ablations_leave_their_part_out(make_dataset):
    contrast_only, tlm_only, unshuffled = (
        dataset.collater([dataset[i] for i in range(9)])
        for dataset in (make_dataset(masking=None), make_dataset(contrastive=False), make_dataset(input_shuffle=False))
    )
    assert len(contrast_only["net_input"]["query_input"]["lengths"]) == 9 and len(contrast_only["target"]) == 0
    assert len(tlm_only["net_input"]["query_input"]["lengths"]) == 9 and "key_input" not in tlm_only["net_input"]
    assert not unshuffled["swapped"].any()


def test_xlm_style_tlm(make_dataset):
    """Positions start again at the second sentence; each side has its language, and queries have none."""
    dataset = make_dataset(reset_positions=True, languages=["de", "en", "fr"])
    batch = dataset.collater([dataset[0], dataset[12]])  # a de-en and a fr-en pair
    packed = batch["net_input"]["query_input"]
    positions, types, languages = (sequences(packed, name) for name in ("positions", "token_types", "languages"))
    assert set(languages[0]) == set(languages[1]) == {0}
    for i, other in ((0, 1), (1, 3)):
        second = types[2 + i].index(1)
        first_language, second_language = (2, other) if batch["swapped"][i] else (other, 2)
        assert languages[2 + i] == [first_language] * second + [second_language] * (len(types[2 + i]) - second)
        assert positions[2 + i] == [*range(second), *range(len(types[2 + i]) - second)]


@pytest.mark.parametrize(
    ("pairs", "pivot", "sides"),
    [(("de-en", "en-fr"), "en", ("target", "source")), (("de-en", "fr-de"), "de", ("source", "target"))],
    ids=["English", "another"],
)
def test_pairs_with_one_pivot_sentence_share_its_hash_whichever_side_it_is_on(make_dataset, pairs, pivot, sides):
    dataset = make_dataset(dict.fromkeys(pairs, 2), pivot=pivot)
    first, second = (getattr(corpus, side) for corpus, side in zip(dataset.corpora, sides, strict=True))
    second.dataset[1] = first.dataset[0]
    assert dataset[0]["pivot"] == dataset[3]["pivot"] != dataset[1]["pivot"]


def test_order_is_by_length_and_random_within(make_dataset):
    dataset = make_dataset({"de-en": 100})
    np.random.seed(0)
    one, two = dataset.ordered_indices(), dataset.ordered_indices()
    assert (np.diff(dataset.sizes[one]) >= 0).all() and sorted(one) == list(range(100))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(("exponent", "counts"), [(1.0, [900, 100]), (0.0, [500, 500]), (0.5, [750, 250])])
def test_sampling_exponent_flattens_the_shares_of_corpora(exponent, counts):
    assert epoch_counts([900, 100], exponent).tolist() == counts


def test_small_corpora_are_repeated_whole_and_large_ones_rotate():
    rows = epoch_rows(10, 25, seed=1, epoch=1, corpus=0)
    counts = np.bincount(rows, minlength=10)
    assert len(rows) == 25 and counts.min() == 2 and counts.max() == 3
    first, second = (set(epoch_rows(1000, 300, 1, epoch, 0).tolist()) for epoch in (1, 2))
    assert len(first) == 300 and 40 < len(first & second) < 150


def test_uniform_is_uniform_and_independent_between_coordinates():
    draws = np.stack([uniform(1, epoch, np.arange(20000), purpose) for epoch in (1, 2) for purpose in (0, 1)])
    assert draws.min() >= 0 and draws.max() < 1
    assert np.abs(draws.mean(axis=1) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.03
    assert np.array_equal(draws[0][5:6], uniform(1, 1, np.array([5]), 0))
