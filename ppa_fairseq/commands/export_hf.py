"""Write the (query) encoder of a checkpoint, with its head, as a Hugging Face folder.

AutoTokenizer and AutoModel load OUT and, depending on what was trained, AutoModelForMaskedLM and SentenceTransformer,
AutoModelForSequenceClassification or AutoModelForQuestionAnswering. CKPT contains all that is needed: sizes, tokenizer
and labels. The momentum encoder, the queue and the projection head are left out.
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import save_file

from ppa_fairseq import __version__
from ppa_fairseq.checkpoints import adapter, huggingface, sentence_encoder, transformers_folder
from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.sentence_encoder import write_json
from ppa_fairseq.checkpoints.tokenizer import write_files
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, SPAN_HEAD, Checkpoint
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="checkpoint or imported folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder (an earlier export is replaced)")
    parser.add_argument(
        "--pooling",
        choices=("cls", "mean"),
        help="sentence vector for sentence-transformers (default: as trained or imported, else mean); not for "
        "fine-tuned models",
    )
    parser.add_argument(
        "--keep-adapter",
        action="store_true",
        help="after a training with --lora-rank, also write its adapters to OUT/adapter, for peft: "
        "PeftModel.from_pretrained(BASE, OUT/adapter), where BASE is AutoModel of the encoder that it started from",
    )


def run(args: argparse.Namespace) -> None:
    with output_folder(args.out, "export-hf") as folder:
        trained = checkpoint.read(args.checkpoint)
        trained.build_tokenizer(str(args.checkpoint))  # raises an error if something is wrong with it
        if args.checkpoint.is_file():  # possibly of --fp16; all commands here compute in fp32
            trained.state = {name: weight.float() for name, weight in trained.state.items()}
        finetuned = any(name.startswith((CLASSIFICATION_HEAD, SPAN_HEAD)) for name in trained.state)
        if finetuned and args.pooling:
            raise InputError(f"--pooling {args.pooling}: {args.checkpoint} is fine-tuned; leave the flag out")
        name, report = write_model(folder, trained)
        if args.keep_adapter:
            if not trained.adapters:
                raise InputError(f"--keep-adapter: {args.checkpoint} was trained without --lora-rank; omit the flag")
            adapter.write(folder / "adapter", trained)
        write_files(trained.tokenizer, folder)
        if not finetuned:
            pooling = args.pooling or trained.pooling or "mean"
            sentence_encoder.write(folder, trained.shape.dim, pooling, trained.max_length)
            report += f", {pooling} pooling for sentence-transformers"
    print(f"{args.out}: {name}{report}")


def write_model(folder: Path, trained: Checkpoint) -> tuple[str, str]:
    """Write config.json and the weights; return the name of transformers' class, and what is not in them."""
    exported_by = f"ppa_fairseq {__version__}"
    if not isinstance(trained.shape, BertShape):
        return transformers_folder.write(folder, trained, exported_by)
    config = {**huggingface.to_config(trained), "exported_by": exported_by}
    write_json(folder / CONFIG_FILE, config)
    save_file(huggingface.to_tensors(trained), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # save_file lets nobody but the owner read it
    return config["architectures"][0], ""
