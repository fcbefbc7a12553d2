"""Import a Hugging Face folder of an encoder: write a fairseq checkpoint, a dictionary and a tokenizer.

DIR holds config.json, model.safetensors or pytorch_model.bin (sharded or not; no pickled code is run) and a tokenizer
in any form that transformers reads; it may be a folder of sentence-transformers. OUT gets model.pt (complete in itself:
weights, sizes, the tokenizer again), dict.txt for `fairseq-preprocess --srcdict` (ids are the vocabulary's own) and the
tokenizer's files. A fine-tuned classifier or question answerer keeps its head and its labels.
"""

import argparse
import json
from pathlib import Path

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints import tokenizer as tokenizers
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

TRANSFORMERS = "ppa_transformers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", type=Path, help="Hugging Face folder of an encoder")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder (an earlier import is replaced)")
    parser.add_argument(
        "--arch",
        choices=("ppa_bert", TRANSFORMERS),
        help="the form of the encoder: this plugin's own, for a BERT or an XLM-RoBERTa, or transformers' (default: our "
        "own where it can be)",
    )


def run(args: argparse.Namespace) -> None:
    with output_folder(args.out, "import-hf") as folder:
        imported = huggingface.read(args.dir, transformers=args.arch == TRANSFORMERS)
        is_ours = isinstance(imported.shape, BertShape)
        if args.arch and is_ours != (args.arch != TRANSFORMERS):
            raise InputError(f"--arch {args.arch}: {args.dir} is no BERT or XLM-RoBERTa; use --arch {TRANSFORMERS}")
        tokenizer = imported.build_tokenizer(str(args.dir))
        write_import(folder, imported, tokenizer)
    shape = imported.shape
    if is_ours:
        name = huggingface.layout_of(shape).name
    else:
        name = f"{json.loads(shape.config)['model_type']} (train it with --arch {TRANSFORMERS})"
    weights = sum(tensor.numel() for tensor in imported.state.values()) / 1e6
    sizes = f"{shape.layers} layers x {shape.dim}, {shape.vocab_size} tokens, {weights:.1f} M weights"
    print(f"{args.out}: {name}, {sizes}")
    for note in filter(None, [*imported.notes, tokenizer.case_warning()]):
        print(f"  {note}")


def write_import(folder: Path, imported: Checkpoint, tokenizer: tokenizers.ModelTokenizer) -> None:
    """Write the checkpoint, its dictionary and its tokenizer's files to a folder."""
    lines = "".join(f"{symbol} 1\n" for symbol in tokenizer.symbols)
    (folder / "dict.txt").write_text(lines, encoding="utf-8", newline="\n")
    tokenizers.write_files(imported.tokenizer, folder)
    checkpoint.write(folder / checkpoint.MODEL_FILE, imported)
