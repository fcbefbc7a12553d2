"""Packed batches: the real tokens of all sequences one after another, no padding anywhere.

A packed batch is a plain dict, which fairseq moves to the device as it is:

    tokens, positions, token_types  (T,) int64    T = tokens of all B sequences
    cu_seqlens                      (B + 1,) int32, where each sequence starts; the last entry is T
    lengths                         list of B int, on the host: planning the attention waits for no device
    max_length                      int
"""

from itertools import accumulate

import torch
from torch import Tensor


def pack(sequences: list[Tensor], token_types: list[Tensor] | None = None) -> dict:
    """Lay B sequences of token ids, each (L_b,) int64 with its [CLS] and [SEP], end to end.

    Token types, if given, are shaped like `sequences`; they default to 0. Positions are 0 … L_b - 1.
    Raises ValueError for no sequence or an empty one: it has no [CLS].
    """
    lengths = [len(sequence) for sequence in sequences]
    if not lengths or min(lengths) == 0:
        raise ValueError(f"cannot pack {'an empty sequence' if lengths else 'no sequences'}")
    tokens = torch.cat(sequences)  # (T,)
    ends = torch.tensor(lengths).cumsum(0)
    cu_seqlens = torch.cat([ends.new_zeros(1), ends])
    starts = torch.repeat_interleave(cu_seqlens[:-1], torch.tensor(lengths))
    return {
        "tokens": tokens,
        "positions": torch.arange(len(tokens)) - starts,
        "token_types": torch.zeros_like(tokens) if token_types is None else torch.cat(token_types),
        "cu_seqlens": cu_seqlens.int(),
        "lengths": lengths,
        "max_length": max(lengths),
    }


def some_sequences(packed: dict, *ranges: tuple[int, int]) -> dict:
    """Take the sequences of some ranges [first, last) out of a packed batch, as a packed batch.

    Any other tensor in *packed* with an entry a token is taken along. With one range the tensors are views.
    """
    lengths = packed["lengths"]
    starts = [0, *accumulate(lengths)]
    device = packed["cu_seqlens"].device
    part = {}
    for name, values in packed.items():
        if torch.is_tensor(values) and name != "cu_seqlens":
            rows = [values[starts[first] : starts[last]] for first, last in ranges]
            part[name] = rows[0] if len(rows) == 1 else torch.cat(rows)
    chosen = [length for first, last in ranges for length in lengths[first:last]]
    cu_seqlens = torch.tensor([0, *accumulate(chosen)], dtype=torch.int32).to(device, non_blocking=True)
    return {**part, "cu_seqlens": cu_seqlens, "lengths": chosen, "max_length": max(chosen)}


def pool(hidden: Tensor, cu_seqlens: Tensor, mode: str) -> Tensor:
    """Pool packed hidden states (T, C), with (B + 1,) starts, to one vector a sequence (B, C).

    `cls` takes each sequence's first token. `mean` averages all its tokens, [CLS] and [SEP] included, as
    sentence-transformers does; it sums in fp32 whatever the precision of `hidden`.
    """
    if mode == "cls":
        return hidden.index_select(0, cu_seqlens[:-1].long())
    if mode == "mean":
        means = torch.segment_reduce(hidden.float(), "mean", offsets=cu_seqlens.long(), axis=0)
        return means.to(hidden.dtype)
    raise ValueError(f"pooling is 'cls' or 'mean', not {mode!r}")


def concatenate(first: dict, second: dict) -> dict:
    """Put two packed batches into one; an entry a token that *second* lacks is 0 there."""
    joined = {
        name: torch.cat([values, second[name] if name in second else values.new_zeros(len(second["tokens"]))])
        for name, values in first.items()
        if torch.is_tensor(values) and name != "cu_seqlens"
    }
    return {
        **joined,
        "cu_seqlens": torch.cat([first["cu_seqlens"], second["cu_seqlens"][1:] + first["cu_seqlens"][-1]]),
        "lengths": first["lengths"] + second["lengths"],
        "max_length": max(first["max_length"], second["max_length"]),
    }
