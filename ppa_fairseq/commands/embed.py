"""Write sentence vectors: one fp32 row a line of text, as a NumPy .npy file.

ppa embed --model checkpoints/checkpoint_best.pt --input sentences.txt --output vectors.npy
python -c 'import numpy; print(numpy.load("vectors.npy", mmap_mode="r").shape)'
"""

import argparse
import os
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from tqdm import tqdm

from ppa_fairseq.commands.arguments import Once, add_batching_arguments
from ppa_fairseq.data.text_files import text_lines
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

# Lines embedded and written at a time: enough to sort by length, whatever the size of the file.
WINDOW = 2**14


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="PATH", type=Path, action=Once, required=True,
        help="a fairseq checkpoint, an imported folder or a Hugging Face folder")  # fmt: skip
    add("--input", metavar="FILE", type=Path, action=Once, required=True,
        help="text in UTF-8, one sentence a line; plain, .gz or .xz")  # fmt: skip
    add("--output", metavar="FILE", type=Path, required=True, help="the .npy file to write, (lines, C)")
    add("--layer", default="last", help="last (default) or a number; 0 is the embeddings")
    add("--pooling", choices=("cls", "mean"), default="mean", help="default: mean")
    add_batching_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.checkpoints.format import load_encoder
    from ppa_fairseq.evaluation.embedding import SentenceEmbedder, choose_layers

    if fault := fault_of_output(args.output, args.input):
        raise InputError(f"{args.output}: {fault}; give --output the name of a new .npy file")
    with atomic_path(args.output) as part, open(part, "wb") as out:
        lines = sum(1 for _ in text_lines(args.input))
        encoder, tokenizer = load_encoder(args.model)
        layers = choose_layers(args.layer, encoder.cfg.layers, several=False)  # a vector is one layer's
        embedder = SentenceEmbedder(
            encoder, tokenizer, layers, [args.pooling], args.max_length, args.batch_tokens, args.cpu
        )
        shape = (lines, encoder.cfg.dim)
        # Written front to back: a memory map would die by a signal, not an error, on a full disk.
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        with tqdm(total=lines, desc="embed", unit="sentence", unit_scale=True) as bar:
            sentences = text_lines(args.input)
            while window := list(islice(sentences, WINDOW)):
                vectors = embedder(window, bar.update)[args.pooling][0]  # (N, C)
                out.write(vectors.numpy().astype("<f4").tobytes())
        if bar.n != lines:
            raise InputError(f"{args.input}: {lines} lines, then {bar.n}: the file changed while it was read")
    if embedder.truncated:
        note = f"{embedder.truncated} of {lines} sentences cut to {embedder.max_length} pieces"
        print(note, file=sys.stderr)
    print(f"{args.output}: {shape[0]} x {shape[1]}, layer {layers[0]}, {args.pooling}")


def fault_of_output(path: Path, text: Path) -> str | None:
    """Why no vectors may go to *path*, if so: only earlier ones are replaced."""
    if path.is_dir():
        return "is a folder"
    if os.path.realpath(path) == os.path.realpath(text):
        return "is --input, too"
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(MAGIC_PREFIX)) not in (MAGIC_PREFIX, b""):  # as mktemp makes it
                return "is no earlier .npy file"
    return None
