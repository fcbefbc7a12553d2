"""Bad input, case by case: a command, what breaks one file of the sound world, and what the message must name.

The message's wording is up to the tests of each command. Here it must name the place: a file, a line, a flag.
"""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Commands, sound except for what a case breaks.
IMPORT = "ppa import-hf hf out"
EXPORT = "ppa export-hf trained.pt out"
BITEXT = (
    "ppa prepare-bitext de-en=text/de-en.tsv --tokenizer hf --out out --min-tokens 1 --valid-share 0.2 --workers 1"
)
XNLI = "ppa prepare-xnli --train nli/dev-en.tsv nli/dev-de.tsv --tokenizer hf --out out --workers 1"
QA = "ppa prepare-qa --train en=qa/dev.en.json --tokenizer hf --out out --max-length 24 --doc-stride 6 --workers 1"
TOPICS = "ppa prepare-classification --train topics/dev-en.tsv --tokenizer hf --out out --workers 1"
TAGS = "ppa prepare-tagging --train tags/dev-en.tsv --tokenizer hf --out out --workers 1"
BINARIZE = "ppa binarize prepared --destdir out --workers 1"
BINARIZE_NLI = "ppa binarize nli-text --destdir out --workers 1"
RETRIEVE = "ppa retrieve --model a=hf --pairs text/de-en.tsv --output out --cpu"
EMBED = "ppa embed --model hf --input text/a.de --output out.npy --cpu"
FIT = "ppa fit-head imported bin out --cpu"
ONNX = "ppa export-onnx hf out"
MINE = "ppa mine de-en=text/a.de,text/a.en --model hf --output out --cpu"
MARGINS = "ppa score-bitext de-en=text/de-en.tsv --model hf --output out --cpu"
TRIM = "ppa trim-vocab hf out de=text/a.de --workers 1"
PROBE = "ppa probe --model a=hf --pairs nli=nli/dev-en.tsv:nli --output out --cpu"
ALIGN = "ppa word-align --model a=hf --text text/de-en.tsv --output out --cpu"
PERPLEXITY = "ppa perplexity --model a=imported --text de=text/a.de --output out --cpu --max-length 12"
CLASSIFY = "ppa evaluate-xnli --model a=classifier --data nli --output out --cpu --max-length 32"
ANSWER = "ppa evaluate-qa --model a=reader --data qa --output out --cpu --max-length 32 --doc-stride 8"
CLASSIFY_TOPICS = "ppa evaluate-classification --model a=classifier --data topics --output out --cpu --max-length 32"
TAG = "ppa evaluate-tagging --model a=tagger --data tags --output out --cpu"
SCORE = "ppa evaluate-qa --predictions a=pred.json --data qa/dev.en.json --output out"
PLUGIN = f"--user-dir {ROOT}/ppa_fairseq --cpu --num-workers 0"
MODEL = "--pretrained imported --optimizer adam --lr 1e-3 --batch-size 4 --max-update 1 --save-dir checkpoints"
TRAIN = f"fairseq-train bin {PLUGIN} --task ppa_alignment --arch ppa_bert --criterion ppa {MODEL} --queue-size 64"
TRAIN_XNLI = (
    f"fairseq-train nli-bin {PLUGIN} --task xnli_codeswitch --arch ppa_bert_classifier --criterion sentence_prediction "
    f"{MODEL} --best-checkpoint-metric accuracy_avg"
)
TRAIN_MLQA = (
    f"fairseq-train qa-bin {PLUGIN} --task mlqa_codeswitch --arch ppa_bert_reader --criterion span_prediction {MODEL} "
    "--best-checkpoint-metric accuracy_avg"
)
VALIDATE = f"fairseq-validate bin {PLUGIN} --task ppa_alignment --path trained.pt --batch-size 4"
PREPROCESS = (
    f"fairseq-preprocess --user-dir {ROOT}/ppa_fairseq --task ppa_alignment -s de -t en --destdir out "
    "--srcdict imported/dict.txt --tgtdict imported/dict.txt --trainpref prepared/train.de-en"
)


# How to break a file. Each takes the world's folder.
def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda world: (world / name).write_bytes(change((world / name).read_bytes()))


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda world: (world / name).write_bytes(content)


def append(name: str, content: bytes) -> Callable[[Path], object]:
    return edit(name, lambda before: before + content)


def cut(name: str) -> Callable[[Path], object]:
    return edit(name, lambda content: content[: len(content) // 2])


def utf16(name: str) -> Callable[[Path], object]:
    return edit(name, lambda content: content.decode().encode("utf-16"))


def foreign_id(name: str) -> Callable[[Path], object]:
    """Give the second of the binarized ids, two bytes each, a value that the dictionary lacks."""
    return edit(name, lambda ids: ids[:3] + b"\x7f" + ids[4:])


def remove(name: str) -> Callable[[Path], object]:
    return lambda world: (world / name).unlink()


def as_pipe(name: str) -> Callable[[Path], object]:
    """Make it a pipe that another process has open, as a shell's `<(zcat …)`."""
    return lambda world: [(world / name).unlink(), os.mkfifo(world / name), os.open(world / name, os.O_RDWR)]


def nothing(world: Path) -> None:
    """Only the flags are wrong."""


def case(id: str, command: str, change: Callable[[Path], object], *named: str):
    return pytest.param(command, change, named, id=id)


CASES = [
    case("import: no folder", "ppa import-hf nowhere out", nothing, "nowhere"),
    case("import: UTF-16 config", IMPORT, utf16("hf/config.json"), "config.json: "),
    case("import: truncated weights", IMPORT, cut("hf/model.safetensors"), "model.safetensors: "),
    case("import: onto others", "ppa import-hf hf full", nothing, "full: holds thesis.txt"),
    case("import: onto a file", "ppa import-hf hf pred.json", nothing, "pred.json: is a file"),
    case("import: below a file", "ppa import-hf hf pred.json/out", nothing, "pred.json"),
    case("export: truncated", EXPORT, cut("trained.pt"), "trained.pt: "),
    case("export: pooling of a classifier", "ppa export-hf classifier out --pooling cls", nothing, "--pooling cls"),
    case("export: onto itself", "ppa export-hf imported imported", nothing, "imported: holds "),
    case("bitext: no file", BITEXT, remove("text/de-en.tsv"), "de-en.tsv: "),
    case("bitext: a pipe", BITEXT, as_pipe("text/de-en.tsv"), "de-en.tsv: "),
    case("bitext: UTF-16", BITEXT, utf16("text/de-en.tsv"), "text/de-en.tsv: "),
    case("bitext: unequal", BITEXT.replace("text/de-en.tsv", "text/a.de,text/a.en"),
        append("text/a.de", b"ab\n"), "a.de", "61", "text/a.en", "60"),
    case("bitext: truncated .gz", BITEXT.replace(".tsv", ".tsv.gz"),
        write("text/de-en.tsv.gz", gzip.compress(b"a\tb\n" * 9999)[:-20]), "de-en.tsv.gz: truncated"),
    case("bitext: onto its input", BITEXT + " --out text", nothing, "text: holds "),
    case("bitext: empty, deep output", BITEXT + " --out new/deep/out", write("text/de-en.tsv", b""), "0 read"),
    case("xnli: a column less", XNLI, append("nli/dev-de.tsv", b"a\tb\n"), "dev-de.tsv:61: "),
    case("xnli: onto its input", XNLI + " --out nli", nothing, "nli: holds "),
    case("qa: truncated", QA, cut("qa/dev.en.json"), "qa/dev.en.json: "),
    case("qa: windows that stand still", QA + " --doc-stride 23", nothing, "--doc-stride 23"),
    case("qa: onto its input", QA + " --out qa", nothing, "qa: holds "),
    case("topics: half a row", TOPICS, append("topics/dev-en.tsv", b"ab\n"), "dev-en.tsv:62: "),
    case("topics: pairs among sentences", TOPICS + " --valid de=nli.jsonl",
        write("nli.jsonl", b'{"premise": "a", "hypothesis": "b", "label": "c"}'), "nli.jsonl:1: ", "dev-en.tsv:2"),
    case("topics: nothing but empty rows", TOPICS, write("topics/dev-en.tsv", b"text\tlabel\n\tx\n"), "--train en: "),
    case("topics: onto its input", TOPICS + " --out topics", nothing, "topics: holds "),
    case("tags: one column", TAGS, append("tags/dev-en.tsv", b"ab\n"), "dev-en.tsv:181: "),
    case("tags: no tag", TAGS, write("tags/dev-en.tsv", b"ab\t_\n"), "--train en: "),
    case("tags: onto its input", TAGS + " --out tags", nothing, "tags: holds "),
    case("binarize: raw text", "ppa binarize text --destdir out", nothing, "text: "),
    case("binarize: Latin-1", BINARIZE, append("prepared/train.de-en.de", b"\xff\n"), "train.de-en.de"),
    case("binarize: unequal", BINARIZE, append("prepared/train.de-en.de", b"a\n"), "train.de-en"),
    case("binarize: onto others", BINARIZE + " --destdir full", nothing, "full: holds "),
    case("binarize: a label", BINARIZE_NLI, append("nli-text/de/train.label", b"maybe\n"), "train.label:61: "),
    case("retrieve: empty", RETRIEVE, write("text/de-en.tsv", b""), "de-en.tsv: "),
    case("retrieve: half a pair", RETRIEVE, append("text/de-en.tsv", b" \tab\n"), "de-en.tsv:61: "),
    case("retrieve: no model", RETRIEVE.replace("a=hf", "a=nowhere"), nothing, "--model a=nowhere: "),
    case("retrieve: JSON for a model", RETRIEVE.replace("a=hf", "a=pred.json"), nothing, "model a: pred.json: "),
    case("retrieve: onto its input", RETRIEVE + " --output text", nothing, "text: holds "),
    case("probe: half a row", PROBE, append("nli/dev-de.tsv", b"a\tb\n"), "dev-de.tsv:61: "),
    case("probe: no training data", PROBE.replace("dev-en.tsv:", "train-en.tsv:"), nothing, "nli/train-en.tsv: "),
    case("embed: an empty line", EMBED, append("text/a.de", b"\r\n"), "text/a.de:61: "),
    case("embed: truncated model", EMBED, cut("hf/model.safetensors"), "model.safetensors: "),
    case("embed: onto its input", EMBED + " --output text/a.de", nothing, "text/a.de"),
    case("embed: a pipe", EMBED, as_pipe("text/a.de"), "text/a.de: is a pipe"),
    case("fit: no data", FIT.replace(" bin ", " nowhere "), nothing, "nowhere: "),
    case("fit: truncated", FIT, cut("bin/train.de-en.de.idx"), "bin/train.de-en.de.bin and .idx: "),
    case("trim: no file", TRIM, remove("text/a.de"), "text/a.de: "),
    case("trim: onto others", TRIM.replace(" out ", " full "), nothing, "full: holds "),
    case("onnx: truncated", ONNX, cut("hf/model.safetensors"), "model.safetensors: "),
    case("onnx: onto others", ONNX.replace(" out", " full"), nothing, "full: holds "),
    case("mine: no file", MINE, remove("text/a.en"), "text/a.en: "),
    case("mine: text for gold", MINE + " --gold text/a.de", nothing, "text/a.de:1: "),
    case("mine: onto its input", MINE + " --output text/a.de", nothing, "text/a.de"),
    case("margins: no file", MARGINS, remove("text/de-en.tsv"), "de-en.tsv: "),
    case("margins: no pair", MARGINS, write("text/de-en.tsv", b"a\n"), "de-en.tsv"),
    case("margins: onto its input", MARGINS + " --output text", nothing, "text: holds "),
    case("align: Latin-1", ALIGN, write("text/de-en.tsv", b"\xe4\tb\n"), "text/de-en.tsv:1: "),
    case("align: a pipe", ALIGN, as_pipe("text/de-en.tsv"), "text/de-en.tsv: is a pipe"),
    case("align: text for links", ALIGN + " --gold text/a.de", nothing, "text/a.de:1:"),
    case("perplexity: empty", PERPLEXITY, write("text/a.de", b""), "text/a.de"),
    case("perplexity: a pipe", PERPLEXITY, as_pipe("text/a.de"), "text/a.de: is a pipe"),
    case("perplexity: no head", PERPLEXITY.replace("a=imported", "a=classifier"), nothing, "model a: classifier"),
    case("classify: half a row", CLASSIFY, append("nli/dev-de.tsv", b" \tb\tneutral\n"), "dev-de.tsv:61: "),
    case("classify: no head", CLASSIFY.replace("=classifier", "=hf"), nothing, "model a: hf: "),
    case("classify topics: no header", CLASSIFY_TOPICS, write("topics/dev-de.tsv", b"ab\tneutral\n"), "dev-de.tsv:1: "),
    case("classify topics: a label", CLASSIFY_TOPICS, append("topics/dev-de.tsv", b"ab\tmaybe\n"), "dev-de.tsv:62: "),
    case("classify topics: no head", CLASSIFY_TOPICS.replace("=classifier", "=tagger"), nothing, "model a: tagger: "),
    case("tag: one column", TAG, append("tags/dev-de.tsv", b"ab\n"), "dev-de.tsv:181: "),
    case("tag: no head", TAG.replace("=tagger", "=classifier"), nothing, "model a: classifier: "),
    case("answer: broken JSON", ANSWER, write("qa/dev.de.json", b"{"), "dev.de.json: "),
    case("answer: no head", ANSWER.replace("=reader", "=hf"), nothing, "model a: hf: "),
    case("score: no predictions", SCORE, remove("pred.json"), "pred.json: "),
    case("train: no data", TRAIN.replace(" bin ", " nowhere "), nothing, "nowhere: "),
    case("train: truncated .bin", TRAIN, cut("bin/train.de-en.de.bin"), "bin/train.de-en.de.bin"),
    case("train: an id beyond the dictionary", TRAIN, foreign_id("bin/train.de-en.en.bin"), "bin/train.de-en.en.bin: "),
    case("train: truncated encoder", TRAIN, cut("imported/model.pt"), "model.pt: "),
    case("train: truncated checkpoint", TRAIN, write("checkpoints/checkpoint_last.pt", b"PK\x03\x04"),
        "checkpoint_last.pt: "),
    case("train: no optimizer", TRAIN.replace("--optimizer adam ", ""), nothing, "--optimizer is missing"),
    case("train: a share of NaN", TRAIN + " --mask-prob nan", nothing, "--mask-prob must be "),
    case("train: another criterion", TRAIN + " --criterion masked_lm", nothing, "do not fit", "--criterion ppa"),
    case("train: another depth", TRAIN + " --encoder-layers 7", nothing, "--encoder-layers is 7"),
    case("nli: truncated labels", TRAIN_XNLI, cut("nli-bin/en/label/train.bin"), "label/train.bin"),
    case("nli: no such language", TRAIN_XNLI + " --train-langs xx", nothing, "xx"),
    case("nli: another model", TRAIN_XNLI + " --arch ppa_bert", nothing, "do not fit"),
    case("mlqa: truncated answers", TRAIN_MLQA, cut("qa-bin/en/train.answer.bin"), "train.answer.bin"),
    case("mlqa: windows", TRAIN_MLQA + " --doc-stride 90", nothing, "--doc-stride 90"),
    case("validate: no data", VALIDATE.replace(" bin ", " nowhere "), nothing, "nowhere: "),
    case("validate: truncated", VALIDATE, cut("bin/valid.de-en.de.idx"), "bin/valid.de-en.de.bin and .idx: "),
    case("preprocess: no dictionary", PREPROCESS.replace("imported/dict.txt", "nothing.txt"), nothing, "nothing.txt: "),
    case("preprocess: other dictionary", PREPROCESS, write("imported/dict.txt", b"a 1\n"), "dict.txt: "),
]  # fmt: skip
