"""A batch in parts is the batches of these pairs alone, and the update is the whole batch's."""

import pytest
import torch
from torch.testing import assert_close

from ppa_fairseq.data.bitext.micro_batches import micro_batches

PLAIN = ["--dropout", "0", "--attention-dropout", "0", "--max-update", "12", "--seed", "3"]
PLAIN += ["--adam-eps", "1e-3"]  # with Adam's own, a gradient that is rounding alone makes whole steps


def tokens(batch: dict) -> int:
    return sum(batch["net_input"]["query_input"]["lengths"])


@pytest.mark.parametrize("most", [1, 60, 150, 10_000])
@pytest.mark.parametrize(
    "settings",
    [{}, {"contrastive": False}, {"masking": None}, {"languages": ["de", "en", "fr"], "reset_positions": True}],
    ids=["both", "tlm", "contrastive", "as in XLM"],
)
def test_a_part_is_a_batch_of_its_pairs(make_dataset, settings, most):
    dataset = make_dataset(**settings)
    order = [3, 9, 0, 12, 5, 7, 13, 1]
    whole = dataset.collater([dataset[i] for i in order])
    parts = micro_batches(whole, most)
    assert [index for part in parts for index in part["id"].tolist()] == order
    longest = max(tokens(dataset.collater([dataset[i]])) for i in order)
    assert all(tokens(part) <= most + longest for part in parts)
    assert len(parts) == {1: len(order), 10_000: 1}.get(most, len(parts))
    assert sum(part["ntokens"] for part in parts) == whole["ntokens"]
    for part in parts:
        alone = dataset.collater([dataset[i] for i in part["id"].tolist()])
        if len(parts) > 1:
            assert part.pop("pairs_per_masked") == len(order) / max(len(whole["target"]), 1)
            alone["ntokens"] = part["ntokens"]
        assert_close(part, alone, rtol=0, atol=0)


def test_the_updates_mean_is_kept(make_dataset):
    dataset = make_dataset()
    whole = dataset.collater([dataset[i] for i in range(8)]) | {"pairs_per_masked": 0.25, "is_of_update": True}
    assert {part["pairs_per_masked"] for part in micro_batches(whole, 60)} == {0.25}
    assert all(part["is_of_update"] for part in micro_batches(whole, 60))


@pytest.mark.parametrize("more", [[], ["--update-freq", "2"], ["--tlm-weight", "0"], ["--contrastive-weight", "0"]])
def test_training_micro_batches_is_training_on_the_whole(train, more):
    whole = train(*PLAIN, *more, "--tokens-at-once", "0", save_dir="whole")
    parts = train(*PLAIN, *more, "--tokens-at-once", "30", save_dir="parts")
    assert whole["optimizer_history"][-1]["num_updates"] == parts["optimizer_history"][-1]["num_updates"] == 12
    for name, tensor in whole["model"].items():
        assert_close(parts["model"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert not torch.equal(whole["model"]["encoder.embed_tokens.weight"], parts["model"]["encoder.embed_tokens.weight"])
