"""Turn a Hugging Face folder of a BERT or an XLM-RoBERTa into a fairseq checkpoint, a dictionary and a tokenizer.

DIR holds config.json, model.safetensors or pytorch_model.bin (sharded or not; no pickled code is run), and
vocab.txt, tokenizer.json or sentencepiece.bpe.model. OUT gets model.pt (complete in itself: weights, sizes, the
tokenizer again), dict.txt for `fairseq-preprocess --srcdict` (ids are the vocabulary's own) and the tokenizer's files.
A fine-tuned classifier or question answerer keeps its head and its labels.
"""

import argparse
from pathlib import Path

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

DICTIONARY_FILE = "dict.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", type=Path, help="Hugging Face folder of a BERT or an XLM-RoBERTa")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder (an earlier import is replaced)")


def run(args: argparse.Namespace) -> None:
    if not args.dir.is_dir():
        raise InputError(f"{args.dir}: no such folder; give a Hugging Face folder")
    with output_folder(args.out, "import-hf") as folder:
        imported = huggingface.read(args.dir)
        texts, source = imported.tokenizer, str(args.dir)
        write_import(folder, imported, source)
    shape = imported.shape
    weights = sum(tensor.numel() for tensor in imported.state.values())
    name = huggingface.layout_of(shape).family.name
    print(f"{args.out}: {name}, {shape.layers} layers x {shape.dim}, {weights / 1e6:.1f} M weights")
    lowers = tokenizer.lowers_case(tokenizer.build_tokenizer(texts, source))
    print(f"  {shape.vocab_size} pieces, text {'is lower-cased' if lowers else 'keeps its case'}")
    for note in imported.notes:
        print(f"  {note}")


def write_import(folder: Path, imported: Checkpoint, source: str) -> None:
    """The checkpoint, its dictionary and its tokenizer's files; *source* names it in messages."""
    lines = "".join(f"{symbol} 1\n" for symbol in tokenizer.symbols(imported.tokenizer, source))
    (folder / DICTIONARY_FILE).write_text(lines, encoding="utf-8", newline="\n")
    tokenizer.write_files(imported.tokenizer, folder)
    checkpoint.write(folder / checkpoint.MODEL_FILE, imported)


