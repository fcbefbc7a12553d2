"""Write the (query) encoder of a checkpoint, with its head, as a Hugging Face folder.

OUT can be loaded with AutoTokenizer, AutoModel and, by what was trained, AutoModelForMaskedLM and
SentenceTransformer, AutoModelForSequenceClassification or AutoModelForQuestionAnswering. CKPT is all that is
needed: sizes, tokenizer and labels are in it. The momentum encoder, the queue and the projection head stay behind.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import save_file

from ppa_fairseq import __version__
from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints import huggingface
from ppa_fairseq.checkpoints import tokenizer_files as tokenizer
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, SPAN_HEAD
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
MODULES_FILE, LENGTH_FILE, POOLING_FOLDER = "modules.json", "sentence_bert_config.json", "1_Pooling"
MARK = "exported_by"  # key of config.json by which a later export knows an earlier one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="checkpoint or imported folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder (an earlier export is replaced)")
    parser.add_argument(
        "--pooling",
        choices=("cls", "mean"),
        help="sentence vector for sentence-transformers (default: as trained, else mean); not for fine-tuned models",
    )


def run(args: argparse.Namespace) -> None:
    with output_folder(args.out, "export-hf") as folder:
        trained = checkpoint.read(args.checkpoint)
        tokenizer.build_tokenizer(trained.tokenizer, str(args.checkpoint))  # or tell what is wrong with it
        if args.checkpoint.is_file():  # maybe of --fp16; all commands here compute in fp32, as what loads it shall
            trained.state = {name: weight.float() for name, weight in trained.state.items()}
        finetuned = any(name.startswith((CLASSIFICATION_HEAD, SPAN_HEAD)) for name in trained.state)
        if finetuned and args.pooling:
            raise InputError(f"--pooling {args.pooling}: {args.checkpoint} is fine-tuned; leave the flag out")
        config = {**huggingface.to_config(trained), MARK: f"ppa_fairseq {__version__}"}
        write_json(folder / CONFIG_FILE, config)
        save_file(huggingface.to_tensors(trained), folder / WEIGHTS_FILE, metadata={"format": "pt"})
        tokenizer.write_files(trained.tokenizer, folder)
        told = ""
        if not finetuned:
            pooling = args.pooling or trained.pooling or "mean"
            write_sentence_transformers(folder, trained.shape, pooling)
            told = f", {pooling} pooling for sentence-transformers"
    print(f"{args.out}: {config['architectures'][0]}{told}")


def write_sentence_transformers(folder: Path, shape: BertShape, pooling: str) -> None:
    """The files by which sentence-transformers knows how to make one vector of a sentence.

    In the form of its releases before 6, which later ones still read.
    """
    steps = {"Transformer": "", "Pooling": POOLING_FOLDER}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(steps.items())
    ]
    (folder / POOLING_FOLDER).mkdir()
    write_json(folder / MODULES_FILE, modules)
    write_json(folder / LENGTH_FILE, {"max_seq_length": shape.max_positions - shape.position_offset})
    write_json(
        folder / POOLING_FOLDER / CONFIG_FILE,
        {
            "word_embedding_dimension": shape.dim,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
        },
    )


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


