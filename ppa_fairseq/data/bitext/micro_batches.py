"""A batch of pairs in parts: their gradients add up to the batch's, and only one part at a time is in memory."""

import numpy as np

from ppa_fairseq.modules.packing import some_sequences


def micro_batches(batch: dict, most: int) -> list[dict]:
    """Cut a batch of `AlignmentDataset.collater` between its pairs, so that the encoder gets less at once.

    Args:
        most: tokens of queries and TLM sequences that a part has, about; a pair is never cut.

    Returns:
        batches of the same form. The mean of the TLM loss stays the whole batch's, or the update's if it knows it.
    """
    pairs, inputs = batch["nsentences"], batch["net_input"]
    lengths = np.array(inputs["query_input"]["lengths"]).reshape(-1, pairs)  # of queries, of TLM sequences, or both
    ends = lengths.sum(0).cumsum()  # (N,) tokens up to the end of each pair
    count = -(-int(ends[-1]) // most)
    if count == 1:
        return [batch]
    cuts = np.searchsorted(ends, np.arange(1, count) / count * ends[-1])
    bounds = np.unique([0, *cuts, pairs]).tolist()
    masked_ends = np.cumsum([0, *inputs["masked_counts"]])
    logged = np.rint(np.array([0, *ends]) / ends[-1] * batch["ntokens"]).astype(int)  # shares, which add up
    common = {"pairs_per_masked": pairs / max(len(batch["target"]), 1)} | batch
    queries = pairs if "key_input" in inputs else 0
    before_tlm = sum(inputs["query_input"]["lengths"][:queries])

    parts = []
    for first, last in zip(bounds, bounds[1:], strict=False):
        ranges = [(kind * pairs + first, kind * pairs + last) for kind in range(len(lengths))]
        packed = some_sequences(inputs["query_input"], *ranges)
        net_input = {"query_input": packed, "masked": inputs["masked"][:0], "masked_counts": []}
        target = batch["target"][:0]
        if inputs["masked_counts"]:
            here = slice(masked_ends[first], masked_ends[last])
            # Where the part's TLM sequences begin, in its own tokens less in the batch's.
            began = before_tlm + sum(inputs["query_input"]["lengths"][queries : queries + first])
            begin = sum(packed["lengths"][: last - first]) if queries else 0
            target = batch["target"][here]
            net_input |= {
                "masked": inputs["masked"][here] - began + begin,
                "masked_counts": inputs["masked_counts"][first:last],
            }
        if queries:
            net_input["key_input"] = some_sequences(inputs["key_input"], (first, last))
        by_pair = {name: batch[name][first:last] for name in ("id", "pair", "pivot", "swapped")}
        counts = {"nsentences": last - first, "ntokens": int(logged[last] - logged[first])}
        parts.append(common | by_pair | counts | {"net_input": net_input, "target": target})
    return parts
