"""Micro-batches of a batch of pairs: their gradients add up to the batch's, and only one of them is in memory."""

from itertools import pairwise

import numpy as np

from ppa_fairseq.modules.packing import some_sequences


def micro_batches(batch: dict, most_tokens: int) -> list[dict]:
    """Cut a batch of `AlignmentDataset.collater` between its pairs, so that the encoder gets fewer tokens at once.

    *most_tokens* is an approximate limit for the queries and TLM sequences of a micro-batch; no pair is cut. The TLM
    loss is still a mean over the whole batch, or over the update if the batch has ``pairs_per_masked``.
    """
    pairs, inputs = batch["nsentences"], batch["net_input"]
    queries = pairs if "key_input" in inputs else 0
    lengths = np.array(inputs["query_input"]["lengths"])  # of queries, of TLM sequences, or both
    starts = np.cumsum([0, *lengths])
    ends = lengths.reshape(-1, pairs).sum(0).cumsum()  # (N,) tokens up to the end of each pair
    count = -(-int(ends[-1]) // most_tokens)
    if count == 1:
        return [batch]
    cuts = np.searchsorted(ends, np.arange(1, count) / count * ends[-1])
    masked_ends = np.cumsum([0, *(inputs["masked_counts"] or [0] * pairs)])
    logged = np.rint(np.array([0, *ends]) / ends[-1] * batch["ntokens"]).astype(int)  # adds up to ntokens
    common = {"pairs_per_masked": pairs / max(len(batch["target"]), 1)} | batch
    parts = []
    for first, last in pairwise(np.unique([0, *cuts, pairs]).tolist()):
        ranges = [(kind + first, kind + last) for kind in range(0, len(lengths), pairs)]
        packed = some_sequences(inputs["query_input"], *ranges)
        here = slice(masked_ends[first], masked_ends[last])
        masked = inputs["masked"][here]
        if len(masked):  # there are TLM sequences: they follow the queries of these pairs alone
            start = sum(packed["lengths"][: last - first]) if queries else 0
            masked = masked + int(start - starts[queries + first])
        net_input = {
            "query_input": packed,
            "masked": masked,
            "masked_counts": inputs["masked_counts"][first:last],
        }
        if queries:
            net_input["key_input"] = some_sequences(inputs["key_input"], (first, last))
        part = {name: batch[name][first:last] for name in ("id", "pair", "pivot", "swapped")}
        part |= {"nsentences": last - first, "ntokens": int(logged[last] - logged[first])}
        parts.append(common | part | {"net_input": net_input, "target": batch["target"][here]})
    return parts
