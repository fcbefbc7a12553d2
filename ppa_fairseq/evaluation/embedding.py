"""Sentences to vectors: batches of similar length, packed; one pass gives all selected layers and poolings."""

from collections.abc import Callable, Iterator, Sequence

import torch
from tokenizers import Encoding, Tokenizer

from ppa_fairseq.evaluation.precision import NOT_FINITE, Precision
from ppa_fairseq.modules.encoders import Encoder
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.utils.errors import InputError

POOLINGS = ("cls", "mean")


class PackedEncoder:
    """An encoder that runs on lists of token ids and keeps all layers: the base of embedding and word alignment.

    Args:
        encoder: in eval mode; it moves to the GPU if there is one (and not `cpu`), and loses layers that nobody needs.
        tokenizer: from `load_encoder`: it adds [CLS] and [SEP], and neither pads nor truncates.
        layers: the hidden states to return, as Hugging Face counts them: 0 is the embeddings, L the last layer.
        max_length: longer sentences are cut to it, [SEP] kept; None: the length of the position table.
        batch_tokens: tokens in one batch; a longer sentence makes a batch of its own.
        dtype: the type in which the encoder computes, as `Precision` takes it.

    Attributes:
        shape: sizes of the whole encoder.
        truncated: sentences that were cut so far.

    Raises:
        InputError: the position table is shorter than `max_length`.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        layers: Sequence[int],
        max_length: int | None = None,
        batch_tokens: int = 4096,
        cpu: bool = False,
        dtype: str = "float32",
    ):
        limit = encoder.max_positions()
        if max_length is not None and not 3 <= max_length <= limit:
            raise InputError(f"--max-length {max_length}: the encoder has {limit} positions; give 3 to {limit}")
        self.device = device(cpu)
        self.shape = encoder.cfg
        encoder.keep_layers(max(layers))
        self.encoder = encoder.to(self.device)
        self.precision = Precision(dtype, self.device, self.encoder)
        self.tokenizer = tokenizer
        self.layers = list(layers)
        self.max_length = max_length or limit
        self.batch_tokens = batch_tokens
        self.truncated = 0

    def ids(self, encoding: Encoding) -> list[int]:
        if len(encoding.ids) <= self.max_length:
            return encoding.ids
        self.truncated += 1
        return encoding.ids[: self.max_length - 1] + encoding.ids[-1:]

    def encode(self, sequences: Sequence[Sequence[int]]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The selected layers of B packed sequences, (T, C) each in fp32, and where each sequence starts, (B + 1,).

        Raises:
            InputError: the encoder's vectors are not finite.
        """
        packed = pack([torch.tensor(ids) for ids in sequences])
        packed = {k: v.to(self.device) if torch.is_tensor(v) else v for k, v in packed.items()}

        def selected() -> torch.Tensor:
            hidden = self.encoder(**packed, return_layers=True)["layers"]
            return torch.stack([hidden[layer] for layer in self.layers])  # (layers, T, C)

        layers = self.precision(selected)
        if not layers.isfinite().all():
            raise InputError(f"the encoder's vectors are not finite: {NOT_FINITE[self.precision.dtype]}")
        return list(layers), packed["cu_seqlens"]


class SentenceEmbedder(PackedEncoder):
    """Embeds lists of sentences with one encoder.

    Args:
        poolings: of "cls" and "mean" (over all tokens, [CLS] and [SEP] included).

    The other arguments and errors are those of `PackedEncoder`.
    """

    def __init__(self, encoder, tokenizer, layers, poolings: Sequence[str] = ("mean",), **limits):
        super().__init__(encoder, tokenizer, layers, **limits)
        self.poolings = list(poolings)

    @torch.inference_mode()
    def __call__(
        self, sentences: Sequence[str], progress: Callable[[int], object] = lambda done: None
    ) -> dict[str, torch.Tensor]:
        """{pooling: (layers, N, C)} of N sentences, in their order: fp32, on the CPU.

        Equal sentences are encoded once: two batches would round their vectors differently.
        `progress` is called with the number of sentences done since its last call.

        Raises:
            InputError: the encoder's vectors are not finite.
        """
        rows = [tuple(self.ids(encoding)) for encoding in self.tokenizer.encode_batch(list(sentences))]
        place = {row: number for number, row in enumerate(dict.fromkeys(rows))}
        distinct = list(place)
        size = (len(self.layers), len(distinct), self.shape.dim)
        vectors = {pooling: torch.empty(size) for pooling in self.poolings}
        for batch in batches_by_length(list(map(len, distinct)), self.batch_tokens):
            layers, cu_seqlens = self.encode([distinct[number] for number in batch])
            for pooling, found in vectors.items():
                found[:, batch] = torch.stack([pool(hidden, cu_seqlens, pooling) for hidden in layers]).float().cpu()
            progress(len(batch))
        progress(len(rows) - len(distinct))
        return {pooling: found[:, [place[row] for row in rows]] for pooling, found in vectors.items()}


def device(cpu: bool) -> torch.device:
    """The GPU if there is one and not `cpu`."""
    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, of at most `batch_tokens` tokens.

    The longest come first, so that a batch too large for the memory fails at once.
    """
    batch, tokens = [], 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and tokens + lengths[index] > batch_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def choose_layers(name: str, depth: int, several: bool = True) -> list[int]:
    """The layers that `name` selects in an encoder of `depth` layers: "last", a number or, if `several`, "all".

    Raises:
        InputError: no such layer.
    """
    if name == "all" and several:
        return list(range(depth + 1))
    if name == "last":
        return [depth]
    if not name.isdecimal() or int(name) > depth:
        words = "last, all," if several else "last"
        raise InputError(f"--layer {name}: no such layer; give {words} or 0 (the embeddings) to {depth}")
    return [int(name)]
