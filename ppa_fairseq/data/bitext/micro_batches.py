"""Micro-batches of a batch of pairs: their gradients add up to the batch's, and only one of them is in memory."""

import numpy as np

from ppa_fairseq.modules.packing import some_sequences


def micro_batches(batch: dict, most_tokens: int) -> list[dict]:
    """Cut a batch of `AlignmentDataset.collater` between its pairs, so that the encoder gets fewer tokens at once.

    Args:
        most_tokens: approximate limit for the queries and TLM sequences of a micro-batch; no pair is cut.

    Returns:
        batches of the same form. The TLM loss is still a mean over the whole batch, or over the update if the batch
        has ``pairs_per_masked``.
    """
    pairs, inputs = batch["nsentences"], batch["net_input"]
    lengths = np.array(inputs["query_input"]["lengths"]).reshape(-1, pairs)  # of queries, of TLM sequences, or both
    ends = lengths.sum(0).cumsum()  # (N,) tokens up to the end of each pair
    count = -(-int(ends[-1]) // most_tokens)
    if count == 1:
        return [batch]
    cuts = np.searchsorted(ends, np.arange(1, count) / count * ends[-1])
    bounds = np.unique([0, *cuts, pairs]).tolist()
    masked_ends = np.cumsum([0, *inputs["masked_counts"]])
    logged = np.rint(np.array([0, *ends]) / ends[-1] * batch["ntokens"]).astype(int)  # adds up to ntokens
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
            # Where the TLM sequences begin: in the whole batch, and in this micro-batch.
            old_start = before_tlm + sum(inputs["query_input"]["lengths"][queries : queries + first])
            new_start = sum(packed["lengths"][: last - first]) if queries else 0
            target = batch["target"][here]
            net_input |= {
                "masked": inputs["masked"][here] - old_start + new_start,
                "masked_counts": inputs["masked_counts"][first:last],
            }
        if queries:
            net_input["key_input"] = some_sequences(inputs["key_input"], (first, last))
        by_pair = {name: batch[name][first:last] for name in ("id", "pair", "pivot", "swapped")}
        counts = {"nsentences": last - first, "ntokens": int(logged[last] - logged[first])}
        parts.append(common | by_pair | counts | {"net_input": net_input, "target": target})
    return parts
