"""Write the (query) encoder of a checkpoint, with its head, as a Hugging Face folder.

AutoTokenizer and AutoModel load OUT and, depending on what was trained, AutoModelForMaskedLM and SentenceTransformer,
AutoModelForSequenceClassification, AutoModelForTokenClassification or AutoModelForQuestionAnswering. CKPT contains all
that is needed: sizes, tokenizer and labels. The momentum encoder, the queue and the projection head are left out.
OUT/README.md is a model card; the flags below add what the checkpoint does not know.
"""

import argparse
import re
import shutil
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import save_file

from ppa_fairseq import __version__
from ppa_fairseq.checkpoints import adapter, huggingface, sentence_encoder, transformers_folder
from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.model_card import Facts, model_card
from ppa_fairseq.checkpoints.sentence_encoder import write_json
from ppa_fairseq.checkpoints.tokenizer import write_files
from ppa_fairseq.checkpoints.weights import FINETUNED_HEADS, Checkpoint
from ppa_fairseq.data.text_files import numbered_lines
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import MARKER, output_folder
from ppa_fairseq.utils.json_files import read_object

CONFIG_FILE, WEIGHTS_FILE, CARD = "config.json", "model.safetensors", "README.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="checkpoint or imported folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder (an earlier export is replaced)")
    parser.add_argument(
        "--pooling",
        choices=("cls", "mean"),
        help="sentence vector for sentence-transformers (default: as trained or imported, else mean); not for "
        "fine-tuned models",
    )
    add = parser.add_argument
    add("--name", help="name in the model card (default: the name of OUT)")
    add("--base", metavar="ID", help="the base model's id on the Hugging Face Hub, for the card")
    add("--license", metavar="ID", help="the base model's licence, as apache-2.0, for the card")
    add("--statistics", metavar="FILE", type=Path, help="statistics.json of `ppa prepare-bitext`, for the card")
    add("--results", metavar="FILE", type=Path, help="table.md of `ppa retrieve` or other Markdown, for the card")
    add("--push", metavar="REPO", help="also upload OUT to this repository of the Hub, private if it is new")
    parser.add_argument(
        "--keep-adapter",
        action="store_true",
        help="after a training with --lora-rank, also write its adapters to OUT/adapter, for peft: "
        "PeftModel.from_pretrained(BASE, OUT/adapter), where BASE is AutoModel of the encoder that it started from",
    )


def run(args: argparse.Namespace) -> None:
    facts = _facts(args)
    with output_folder(args.out, "export-hf") as folder:
        trained = checkpoint.read(args.checkpoint)
        trained.build_tokenizer(str(args.checkpoint))  # raises an error if something is wrong with it
        if args.checkpoint.is_file():  # possibly of --fp16; all commands here compute in fp32
            trained.state = {name: weight.float() for name, weight in trained.state.items()}
        finetuned = any(name.startswith(FINETUNED_HEADS) for name in trained.state)
        if finetuned and args.pooling:
            raise InputError(f"--pooling {args.pooling}: {args.checkpoint} is fine-tuned; leave the flag out")
        name, report = write_model(folder, trained)
        if args.keep_adapter:
            if not trained.adapters:
                raise InputError(f"--keep-adapter: {args.checkpoint} was trained without --lora-rank; omit the flag")
            adapter.write(folder / "adapter", trained)
        write_files(trained.tokenizer, folder)
        pooling = None if finetuned else args.pooling or trained.pooling or "mean"
        (folder / CARD).write_text(model_card(trained, name, pooling, facts), encoding="utf-8")
        if pooling:
            sentence_encoder.write(folder, trained.shape.dim, pooling, trained.max_length)
            report += f", {pooling} pooling for sentence-transformers"
    print(f"{args.out}: {name}{report}")
    if args.push:
        push(args.out, args.push)
        print(f"{args.push}: uploaded")


def _facts(args: argparse.Namespace) -> Facts:
    """What the flags add to the card. Raises InputError if a flag or a file has another form."""
    for flag, repository in (("--base", args.base), ("--push", args.push)):
        try:
            validate_repo_id(repository or "none")
        except HFValidationError as error:
            raise InputError(f"{flag} {repository}: {error}") from None
    if args.license and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", args.license):
        raise InputError(f"--license {args.license}: not one of the Hub's identifiers, as apache-2.0, mit or other")
    facts = Facts(args.name or args.push or args.out.resolve().name, args.base, args.license)
    if args.statistics:
        try:
            found = read_object(args.statistics, "give statistics.json of `ppa prepare-bitext`")
            facts.pairs = {pair: int(counts["train"]) for pair, counts in found.items()}
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{args.statistics}: not statistics.json of `ppa prepare-bitext`; give that") from None
    if args.results:
        facts.table = "\n".join(line for _, line in numbered_lines(args.results))
    return facts


def push(folder: Path, repository: str) -> None:
    """Upload a folder to the Hub, with the token of `hf auth login`. Raises InputError if the Hub refuses."""
    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=[MARKER])
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"--push {repository}: {reason}; the folder {folder} is whole") from None


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
