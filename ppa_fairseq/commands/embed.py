"""Write sentence vectors: one fp32 row for each line of text, as a NumPy .npy file.

ppa embed --model checkpoints/checkpoint_best.pt --input sentences.txt --output vectors.npy
python -c 'import numpy; print(numpy.load("vectors.npy", mmap_mode="r").shape)'
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from tqdm import tqdm

from ppa_fairseq.commands._evaluation import load_embedder, note_precision, note_truncated
from ppa_fairseq.commands.arguments import Once, add_embedding_arguments
from ppa_fairseq.data.text_files import text_lines
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

WINDOW = 2**14  # lines embedded at a time: enough to sort by length, for a file of any size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="PATH", type=Path, action=Once, required=True,
        help="a fairseq checkpoint, an imported folder or a Hugging Face folder")  # fmt: skip
    add("--input", metavar="FILE", type=Path, action=Once, required=True,
        help="text in UTF-8, one sentence per line; plain, .gz, .xz, .bz2 or .zst")  # fmt: skip
    add("--output", metavar="FILE", type=Path, required=True, help="the .npy file to write, (lines, C)")
    add("--layer", default="last", help="last (default) or a number; 0 is the embeddings")
    add_embedding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    check_output(args.output)
    lines = sum(1 for _ in text_lines(args.input))
    with atomic_path(args.output) as part, open(part, "wb") as out:
        embedder = load_embedder("embed", args.model, args)
        (layer,), (pooling,), dim = embedder.layers, embedder.poolings, embedder.shape.dim
        # Written front to back: on a full disk a memory map ends in a signal instead of an error.
        header = {"descr": "<f4", "fortran_order": False, "shape": (lines, dim)}
        np.lib.format.write_array_header_1_0(out, header)
        with tqdm(total=lines, desc="embed", unit="sentence", unit_scale=True) as bar:
            sentences = text_lines(args.input)
            while window := list(islice(sentences, WINDOW)):
                vectors = embedder(window, bar.update)[pooling][0]  # (N, C)
                out.write(vectors.numpy().astype("<f4").tobytes())
    note_truncated("embed", embedder, lines, "sentences")
    note_precision("embed", embedder, "token vectors")
    print(f"{args.output}: {lines} x {dim}, layer {layer}, {pooling}")


def check_output(path: Path) -> None:
    """Raise InputError unless `path` is free or holds an earlier .npy file."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(MAGIC_PREFIX)) not in (MAGIC_PREFIX, b""):  # empty, as mktemp makes it
                raise InputError(f"{path}: exists and is not a .npy file; give --output the name of a new .npy file")
