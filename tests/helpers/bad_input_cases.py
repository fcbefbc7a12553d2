"""Bad input, case by case: a command, what breaks one file of the sound world, and what the message must name.

The message's wording is up to the tests of each command. Here it must name the place: a file, a line, a flag.
"""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Commands, sound except for what a case breaks.
IMPORT = "ppa import-hf hf out"
EXPORT = "ppa export-hf trained.pt out"
BITEXT = "ppa prepare-bitext de-en=text/de-en.tsv --tokenizer hf --out out --min-tokens 1 --workers 1"
XNLI = "ppa prepare-xnli --train nli/dev-en.tsv nli/dev-de.tsv --tokenizer hf --out out --workers 1"
QA = "ppa prepare-qa --train en=qa/dev.en.json --tokenizer hf --out out --max-length 24 --doc-stride 6 --workers 1"
BINARIZE = "ppa binarize prepared --destdir out --workers 1"
BINARIZE_NLI = "ppa binarize nli-text --destdir out --workers 1"
RETRIEVE = "ppa retrieve --model a=hf --pairs text/de-en.tsv --output out --cpu"
EMBED = "ppa embed --model hf --input text/a.de --output out.npy --cpu"
TRIM = "ppa trim-vocab hf out de=text/a.de --workers 1"
ALIGN = "ppa word-align --model a=hf --text text/de-en.tsv --output out --cpu"
PERPLEXITY = "ppa perplexity --model a=imported --text de=text/a.de --output out --cpu --max-length 12"
CLASSIFY = "ppa evaluate-xnli --model a=classifier --data nli --output out --cpu --max-length 32"
ANSWER = "ppa evaluate-qa --model a=reader --data qa --output out --cpu --max-length 32 --doc-stride 8"
SCORE = "ppa evaluate-qa --predictions pred.json --data qa/dev.en.json --output out"
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


def replace(name: str, old: bytes, new: bytes) -> Callable[[Path], object]:
    return edit(name, lambda content: content.replace(old, new, 1))


def cut(name: str) -> Callable[[Path], object]:
    return edit(name, lambda content: content[: len(content) // 2])


def utf16(name: str) -> Callable[[Path], object]:
    return edit(name, lambda content: content.decode().encode("utf-16"))


def foreign_id(name: str) -> Callable[[Path], object]:
    """Give the second of the binarized ids, two bytes each, a value that the dictionary lacks."""
    return edit(name, lambda ids: ids[:3] + b"\x7f" + ids[4:])


def remove(name: str) -> Callable[[Path], object]:
    return lambda world: shutil.rmtree(world / name) if (world / name).is_dir() else (world / name).unlink()


def as_pipe(name: str) -> Callable[[Path], object]:
    return lambda world: [(world / name).unlink(), os.mkfifo(world / name)]


def config(name: str, **values) -> Callable[[Path], object]:
    return edit(name, lambda content: json.dumps(json.loads(content) | values).encode())


def squad(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """Change the first paragraph of qa/dev.en.json."""

    def edited(content: bytes) -> bytes:
        tree = json.loads(content)
        change(tree["data"][0]["paragraphs"][0])
        return json.dumps(tree).encode()

    return edit("qa/dev.en.json", edited)


def both(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda world: [change(world) for change in changes]


def nothing(world: Path) -> None:
    """Only the flags are wrong."""


def case(id: str, command: str, change: Callable[[Path], object], *named: str):
    return pytest.param(command, change, named, id=id)


LABELS = b"a\tb\tneutral\n"

CASES = [
    # import-hf
    case("ppa import-hf nowhere out", nothing, "nowhere: no such folder", id="import: no folder"),
    case("ppa import-hf hf/config.json out", nothing, "config.json: no such folder", id="import: a file"),
    case(IMPORT, remove("hf/config.json"), "hf/config.json: no such file", id="import: no config"),
    case(IMPORT, as_folder("hf/config.json"), "hf/config.json: is a directory", id="import: config a folder"),
    case(IMPORT, recode("hf/config.json", "utf-16"), "config.json: not UTF-8", id="import: UTF-16 config"),
    case(IMPORT, write("hf/config.json", "[" * 5000), "config.json: no JSON", id="import: deep config"),
    case(IMPORT, config(hidden_size="16"), "hidden_size is '16', which is not a size", id="import: a size as text"),
    case(IMPORT, config(hidden_size=True), "hidden_size is True, which is not a size", id="import: a size of true"),
    case(IMPORT, config(layer_norm_eps=float("nan")), "layer_norm_eps is nan", id="import: a size of NaN"),
    case(IMPORT, config(hidden_dropout_prob=1.5), "hidden_dropout_prob is 1.5", id="import: dropout over 1"),
    case(IMPORT, config(vocab_size=HUGE), "config.json", id="import: a huge vocabulary"),
    case(IMPORT, config(num_hidden_layers=HUGE), "config.json", id="import: a huge depth"),
    case(IMPORT, config(model_type=["bert"]), "model_type is ['bert']", id="import: model type a list"),
    case(IMPORT, config(model_type={"0": "x" * 40_000}), "model_type is {'0': 'xxx", id="import: a long value"),
    case(IMPORT, cut("hf/model.safetensors"), "model.safetensors: truncated", id="import: truncated weights"),
    case(IMPORT, as_folder("hf/model.safetensors"), "hf: no model.safetensors", id="import: weights a folder"),
    case(IMPORT, replace("hf/vocab.txt", "[MASK]\n", "mask\n"), "62 tokens", "61 word", id="import: no [MASK]"),
    case(IMPORT, append("hf/vocab.txt", "q\n"), "62 tokens", "61 word embeddings", id="import: another vocabulary"),
    case(IMPORT, append("hf/vocab.txt", b"\xff\n"), "hf: transformers cannot read", id="import: Latin-1 vocabulary"),
    case(IMPORT, both(write("hf/tokenizer_config.json", '{"do_lower_case": 3}'), remove("hf/vocab.txt")),
        "has no tokenizer", id="import: no vocabulary"),
    case("ppa import-hf hf full", nothing, "full: holds files that are no earlier import", id="import: onto others"),
    case("ppa import-hf hf hf", nothing, "hf: holds files that are no earlier import", id="import: onto itself"),
    case("ppa import-hf hf pred.json", nothing, "pred.json: is a file", id="import: onto a file"),
    case("ppa import-hf hf pred.json/out", nothing, "pred.json", id="import: below a file"),
    # export-hf
    case("ppa export-hf nothing.pt out", nothing, "nothing.pt: no such checkpoint", id="export: no checkpoint"),
    case(EXPORT, cut("trained.pt"), "trained.pt: truncated", id="export: truncated"),
    case(EXPORT, write("trained.pt", "not torch's"), "trained.pt: truncated, or no PyTorch file", id="export: text"),
    case(EXPORT, write("trained.pt", b""), "trained.pt: truncated, or no PyTorch file", id="export: empty"),
    case("ppa export-hf classifier out --pooling cls", nothing, "--pooling cls", "is fine-tuned",
        id="export: pooling of a classifier"),
    case("ppa export-hf imported imported", nothing, "imported: holds files that are no", id="export: onto itself"),
    case("ppa export-hf trained.pt trained.pt", nothing, "trained.pt: is a file", id="export: onto a file"),
    case(EXPORT + " --pooling max", nothing, "invalid choice: 'max'", id="export: unknown pooling"),
    # prepare-bitext
    case(BITEXT, remove("text/de-en.tsv"), "de-en.tsv: no such file", id="bitext: no file"),
    case(BITEXT, as_folder("text/de-en.tsv"), "de-en.tsv: is a folder", id="bitext: a folder"),
    case(BITEXT, as_pipe("text/de-en.tsv"), "de-en.tsv: neither a file nor a folder", id="bitext: a pipe"),
    case(BITEXT, write("text/de-en.tsv", b""), "0 read", id="bitext: empty"),
    case(BITEXT, recode("text/de-en.tsv", "utf-16"), "text/de-en.tsv: is UTF-16", id="bitext: UTF-16"),
    case(BITEXT, edit("text/de-en.tsv", lambda content: content.replace(b"\t", b"\xe4\t")), "encoding 40",
        id="bitext: Latin-1"),
    case(BITEXT, edit("text/de-en.tsv", lambda content: content.replace(b"\t", b"\0\t")), "control 40",
        id="bitext: NUL"),
    case(BITEXT, edit("text/de-en.tsv", lambda content: content.replace(b"\t", b" ")), "1 columns, no column 2",
        id="bitext: no tabs"),
    case(BITEXT, write("text/de-en.tsv", b"ab " * 20_000 + b"\tcd\n"), "long 1", id="bitext: a line of 60 kB"),
    case(BITEXT + " --columns 1,7", nothing, "no column 7", id="bitext: no such column"),
    case(BITEXT + " --columns 2,2", nothing, "--columns 2,2", "different", id="bitext: a column twice"),
    case(BITEXT.replace(".tsv", ".tsv.gz"), write("text/de-en.tsv.gz", gzip.compress(b"a\tb\n" * 9999)[:-20]),
        "de-en.tsv.gz: truncated", id="bitext: truncated .gz"),
    case(BITEXT.replace(".tsv", ".tsv.xz"), write("text/de-en.tsv.xz", lzma.compress(b"a\tb\n" * 9999)[:-20]),
        "de-en.tsv.xz: truncated", id="bitext: truncated .xz"),
    case(BITEXT.replace(".tsv", ".tsv.gz"), write("text/de-en.tsv.gz", "ab\tcd\n"), "de-en.tsv.gz: truncated",
        id="bitext: .gz that is none"),
    case(BITEXT.replace(".tsv", ".tsv.bz2"), write("text/de-en.tsv.bz2", "x"), "cannot read .bz2", id="bitext: .bz2"),
    case(TWO_FILES, append("text/a.de", "ab\n"), "a.de has 41 lines but text/a.en has 40", id="bitext: unequal"),
    case(BITEXT.replace("de-en=", "de-de="), nothing, "de-de: expected two different", id="bitext: one language"),
    case(BITEXT + " --min-tokens 70", nothing, "--min-tokens 70", "--max-tokens 128", id="bitext: contradiction"),
    case(BITEXT + " --valid-share nan", nothing, "--valid-share nan", id="bitext: a share of NaN"),
    case(BITEXT + " --max-train 0", nothing, "--max-train 0: must be at least 1", id="bitext: no pairs wanted"),
    case(BITEXT + " --tokenizer nowhere", nothing, "nowhere: no such folder", "`ppa import-hf`",
        id="bitext: no folder of a tokenizer"),
    case(XNLI + " --tokenizer nowhere", nothing, "nowhere: no such folder", "`ppa import-hf`",
        id="xnli: no folder of a tokenizer"),
    case(QA + " --tokenizer nowhere", nothing, "nowhere: no such folder", "`ppa import-hf`",
        id="qa: no folder of a tokenizer"),
    case(BITEXT + " --tokenizer full", nothing, "full: has no tokenizer", id="bitext: no tokenizer"),
    case(BITEXT + " --out text", nothing, "text: holds files that are no earlier", id="bitext: onto its input"),
    case(BITEXT + " --out pred.json/out", nothing, "pred.json", id="bitext: below a file"),
    case(BITEXT + " --out new/deep/out --valid-share 2", nothing, "--valid-share 2", id="bitext: a share over 1"),
    case(BITEXT + " --out new/deep/out", write("text/de-en.tsv", b""), "0 read", id="bitext: deep folder, empty file"),
    # prepare-xnli
    case(XNLI, remove("nli/dev-de.tsv"), "nli/dev-de.tsv: no such file", id="xnli: no file"),
    case(XNLI, write("nli/dev-de.tsv", b""), "nli/dev-de.tsv: no row", id="xnli: empty"),
    case(XNLI, recode("nli/dev-de.tsv", "utf-16"), "nli/dev-de.tsv: is UTF-16", id="xnli: UTF-16"),
    case(XNLI, recode("nli/dev-de.tsv", "latin-1"), "nli/dev-de.tsv:1: not UTF-8", id="xnli: Latin-1"),
    case(XNLI, append("nli/dev-de.tsv", "a\tb\tneutral\n"), "no row of en goes with", id="xnli: a row more"),
    case(XNLI, append("nli/dev-en.tsv", "a\tb\tneutral\n"), "dev-en.tsv:41: no row in de", id="xnli: a row less"),
    case(XNLI, append("nli/dev-de.tsv", "a\tb\n"), "dev-de.tsv:41: 2 tab-separated columns", id="xnli: a column less"),
    case(XNLI, replace("nli/dev-de.tsv", "neutral", "maybe"), "dev-de.tsv:2: unknown label 'maybe'",
        id="xnli: unknown label"),
    case(XNLI, replace("nli/dev-de.tsv", "neutral", "entailment"), "dev-de.tsv:2: entailment, but nli/dev-en.tsv:2",
        id="xnli: another label"),
    case(XNLI, append("nli/dev-de.tsv", "a" * 40_000 + "\tb\tneutral\n"), "dev-de.tsv:41: a line of over",
        id="xnli: a long line"),
    case(XNLI + " --langs en,fr", nothing, "--langs: no file of fr", id="xnli: no such language"),
    case("ppa prepare-xnli --tokenizer hf --out out", nothing, "nothing to prepare", id="xnli: no input"),
    case(XNLI + " --valid nli/x.jsonl", write("nli/x.jsonl", MNLI), "neither its rows nor its name",
        id="xnli: no language"),
    case(XNLI + " --valid fr=nli/x.jsonl", write("nli/x.jsonl", MNLI + MNLI[:30]), "x.jsonl:2: no JSON",
        id="xnli: broken JSON"),
    case(XNLI + " --valid fr=nli/x.jsonl", write("nli/x.jsonl", MNLI + "[" * 9999), "x.jsonl:2: no JSON (nested",
        id="xnli: deep JSON"),
    case(XNLI + " --valid fr=nli/x.jsonl", write("nli/x.jsonl", MNLI.replace("{", '{"gold_label": "-", ')),
        "x.jsonl:1", "'gold_label' stands twice", id="xnli: a key twice"),
    case(XNLI + " --valid fr=nli/x.jsonl", write("nli/x.jsonl", MNLI.replace('"ab"', "1e999")),
        "x.jsonl:1: sentence1 is no text", id="xnli: a number for text"),
    case(XNLI + " --valid fr=nli/x.jsonl", write("nli/x.jsonl", MNLI.replace('"neutral"', "9" * 5000)),
        "x.jsonl:1: no JSON", id="xnli: a number of 5,000 digits"),
    case(XNLI + " --valid fr=nli/x.jsonl", write("nli/x.jsonl", MNLI.replace("ab", "\\ud800")),
        "x.jsonl:1: sentence1 has half a character", id="xnli: half a character"),
    case(XNLI + " --out nli", nothing, "nli: holds files that are no earlier", id="xnli: onto its input"),
    # prepare-qa
    case(QA, remove("qa/dev.en.json"), "qa/dev.en.json: no such file", id="qa: no file"),
    case(QA, as_pipe("qa/dev.en.json"), "qa/dev.en.json: neither a file nor a folder", id="qa: a pipe"),
    case(QA, write("qa/dev.en.json", b""), "qa/dev.en.json: no JSON", id="qa: empty"),
    case(QA, cut("qa/dev.en.json"), "qa/dev.en.json: no JSON", id="qa: truncated"),
    case(QA, recode("qa/dev.en.json", "utf-16"), "qa/dev.en.json: not UTF-8", id="qa: UTF-16"),
    case(QA.replace(".json", ".json.gz"), write("qa/dev.en.json.gz", gzip.compress(bytes(9999))[:-9]),
        "dev.en.json.gz: truncated", id="qa: truncated .gz"),
    case(QA, write("qa/dev.en.json", '{"a":' * 5000), "qa/dev.en.json: no JSON (nested too deeply", id="qa: deep"),
    case(QA, replace("qa/dev.en.json", "{", '{"data": [], '), "'data' stands twice", id="qa: a key twice"),
    case(QA, squad(lambda entry: entry["qas"][0].update(id="q1")), "has the same id", id="qa: an id twice"),
    case(QA, squad(lambda entry: entry["qas"][0].update(id="a\nb")), "id that can be printed", id="qa: odd id"),
    case(QA, squad(lambda entry: entry["qas"][0].update(id="x" * 40_000, question=0)), "question xxx",
        id="qa: a long id"),
    case(QA, squad(lambda entry: entry["qas"][0].update(question=7)), "paragraph 1: question q0: its question is",
        id="qa: a number for a question"),
    case(QA, squad(lambda entry: entry.update(context="\ud800")), "context has half a character", id="qa: half"),
    case(QA, squad(lambda entry: entry["qas"][0]["answers"][0].update(answer_start="0")), "paragraph 1: question q0",
        "answer_start", id="qa: answer_start as text"),
    case(QA, squad(lambda entry: entry["qas"][0]["answers"][0].update(answer_start=True)), "paragraph 1: question q0",
        "answer_start", id="qa: answer_start of true"),
    case(QA, squad(lambda entry: entry["qas"][0]["answers"][0].update(answer_start=float("nan"))), "answer_start",
        id="qa: answer_start of NaN"),
    case(QA, write("qa/dev.en.json", '{"data": [{"paragraphs": []}]}'), "no questions in it", id="qa: no questions"),
    case(QA, edit("qa/dev.en.json", lambda content: content.replace(b'start": 0', b'start": %d' % HUGE)),
        "none of 40 questions has an answer", f"is not at {HUGE}", id="qa: all answers elsewhere"),
    case(QA + " --doc-stride 23", nothing, "--max-length 24 with --doc-stride 23", id="qa: windows that stand still"),
    case(QA.replace("en=", "e/n="), nothing, "expected LANG=FILE", id="qa: odd language"),
    case(QA + " --out qa", nothing, "qa: holds files that are no earlier", id="qa: onto its input"),
    # binarize
    case("ppa binarize nowhere --destdir out", nothing, "nowhere: no such folder", id="binarize: no folder"),
    case("ppa binarize text --destdir out", nothing, "text: no train.A-B.LANGUAGE", id="binarize: raw text"),
    case(BINARIZE, append("prepared/train.de-en.de", b"\xff\n"), "train.de-en.de:", "not UTF-8", id="binarize: code"),
    case(BINARIZE, append("prepared/train.de-en.de", "a\n"), "lines but", id="binarize: unequal"),
    case(BINARIZE, remove("prepared/train.de-en.en"), "train.de-en.en: no such file", id="binarize: half a pair"),
    case(BINARIZE, write("prepared/valid.de-en.de", b""), "valid.de-en.de: empty", id="binarize: empty"),
    case(BINARIZE, remove("prepared/dict.txt"), "prepared/dict.txt: no such file", id="binarize: no dictionary"),
    case(BINARIZE, replace("prepared/dict.txt", "[SEP] 1\n", ""), "dict.txt: no [SEP]", id="binarize: no [SEP]"),
    case(BINARIZE, append("prepared/dict.txt", "word " + "9" * 5000), "dict.txt:62: no `symbol count`",
        id="binarize: a count of 5,000 digits"),
    case(BINARIZE, append("prepared/dict.txt", "word\n"), "dict.txt:62: no `symbol count`", id="binarize: no count"),
    case(BINARIZE + " --lang-pairs fr-en", nothing, "no train.A-B.LANGUAGE of fr-en", id="binarize: no such pair"),
    case(BINARIZE + " --destdir full", nothing, "full: holds files that are no earlier", id="binarize: onto others"),
    case(BINARIZE_NLI, append("nli-text/de/train.label", "maybe\n"), "train.label:41: 'maybe'", id="binarize: label"),
    case(BINARIZE_NLI, remove("nli-text/de/train.input1"), "train.input1", id="binarize: no hypotheses"),
    case(BINARIZE_NLI, write("nli-text/labels.txt", b"\xff"), "labels.txt", "UTF-8", id="binarize: broken labels"),
    case(BINARIZE + " --lang-pairs de-en --lang-pairs fr-en", nothing, "given twice", id="binarize: twice"),
    # launch
    case(LAUNCH.format("--nproc 0 --cpu"), nothing, "--nproc 0: a machine needs", id="launch: no ranks"),
    case(LAUNCH.format("--nproc two"), nothing, "argument --nproc: invalid int", id="launch: ranks in words"),
    case(LAUNCH.format("--cpu --nnodes 2"), nothing, "--nnodes 2 needs --node-rank", id="launch: no master"),
    case(LAUNCH.format("--cpu --nnodes 2 --node-rank 2 --master-addr x"), nothing, "--node-rank 2", "from 0 to 1",
        id="launch: a rank beyond"),
    case(LAUNCH.format("--cpu --nnodes 2 --node-rank 1 --master-addr x --master-port 70000"), nothing,
        "--master-port 70000", id="launch: no port"),
    case("ppa launch --cpu", nothing, "required", "-- ARGUMENT", id="launch: nothing to run"),
    case(LAUNCH.format("--cpu --nnodes 0"), nothing, "--nnodes 0: a training needs", id="launch: no machines"),
    # retrieve
    case(RETRIEVE, remove("text/de-en.tsv"), "de-en.tsv: no such file", id="retrieve: no file"),
    case(RETRIEVE, as_pipe("text/de-en.tsv"), "de-en.tsv: neither a file nor a folder", id="retrieve: a pipe"),
    case(RETRIEVE, write("text/de-en.tsv", b""), "de-en.tsv: the file is empty", id="retrieve: empty"),
    case(RETRIEVE, recode("text/de-en.tsv", "latin-1"), "de-en.tsv:1: not UTF-8", id="retrieve: Latin-1"),
    case(RETRIEVE, append("text/de-en.tsv", " \tab\n"), "de-en.tsv:41: an empty sentence", id="retrieve: half a pair"),
    case(RETRIEVE.replace("text/de-en.tsv", "full/thesis.txt"), nothing, "the name tells no language pair",
        id="retrieve: no pair"),
    case(RETRIEVE.replace("a=hf", "a=nowhere"), nothing, "--model a=nowhere: no such file", id="retrieve: no model"),
    case(RETRIEVE.replace("a=hf", "a=pred.json"), nothing, "model a: pred.json: truncated, or no PyTorch file",
        id="retrieve: JSON for a model"),
    case(RETRIEVE.replace("a=hf", "hf"), nothing, "'hf' is not NAME=PATH", id="retrieve: no name"),
    case(RETRIEVE + " --model a=imported", nothing, "two models of this name", id="retrieve: one name"),
    case(RETRIEVE + " --layer 99", nothing, "--layer 99", id="retrieve: no such layer"),
    case(RETRIEVE + " --max-length 99", nothing, "--max-length 99", id="retrieve: too long"),
    case(RETRIEVE + " --output pred.json", nothing, "pred.json: is a file", id="retrieve: onto a file"),
    case(RETRIEVE + " --output full", remove("text/de-en.tsv"), "full: holds files that are no earlier retrieval",
        id="retrieve: onto others"),
    case(RETRIEVE + " --pairs text --output text", nothing, "text: holds files that are no earlier retrieval",
        id="retrieve: onto its input"),
    case(RETRIEVE + " --output pred.json/out", nothing, "pred.json", id="retrieve: below a file"),
    case(RETRIEVE.replace("--pairs", "--pairs nowhere --pairs"), nothing, "nowhere: no", id="retrieve: twice"),
    # embed
    case(EMBED, remove("text/a.de"), "text/a.de: No such file", id="embed: no file"),
    case(EMBED, write("text/a.de", b""), "text/a.de: the file is empty", id="embed: empty"),
    case(EMBED, recode("text/a.de", "utf-16"), "text/a.de: is UTF-16", id="embed: UTF-16"),
    case(EMBED, append("text/a.de", "a" * 40_000), "text/a.de:41: a line of over", id="embed: a long line"),
    case(EMBED, append("text/a.de", "\r\n"), "text/a.de:41: an empty line", id="embed: an empty line"),
    case(EMBED, cut("hf/model.safetensors"), "model.safetensors: truncated", id="embed: truncated model"),
    case(EMBED + " --layer all", nothing, "--layer all", id="embed: all layers"),
    case(EMBED + " --output full", nothing, "full: is a folder", id="embed: onto a folder"),
    case(EMBED + " --output text/a.de", nothing, "text/a.de", "--input", id="embed: onto its input"),
    case(EMBED + " --output full/thesis.txt", nothing, "full/thesis.txt: is no earlier .npy file",
        id="embed: onto another file"),
    case(EMBED + " --output pred.json/out", nothing, "pred.json", id="embed: below a file"),
    case(EMBED + " --model imported", nothing, "argument --model: given twice", id="embed: two models"),
    case(EMBED + " --input text/a.en", nothing, "argument --input: given twice", id="embed: two texts"),
    # trim-vocab
    case(TRIM, remove("text/a.de"), "text/a.de", "no such file", id="trim: no file"),
    case(TRIM, as_pipe("text/a.de"), "text/a.de: neither a file nor a folder", id="trim: a pipe"),
    case(TRIM, write("text/a.de", b""), "text/a.de", id="trim: empty"),
    case(TRIM, recode("text/a.de", "utf-16"), "text/a.de: is UTF-16", id="trim: UTF-16"),
    case(TRIM, cut("hf/model.safetensors"), "model.safetensors: truncated", id="trim: truncated model"),
    case(TRIM.replace("de=", ""), nothing, "text/a.de", id="trim: no language"),
    case(TRIM.replace(" out ", " full "), nothing, "full: holds files that are no earlier", id="trim: onto others"),
    case(TRIM + " --held-out de=nowhere --held-out de=text/a.de", nothing, "nowhere: no such file", id="trim: twice"),
    # word-align
    case(ALIGN, remove("text/de-en.tsv"), "text/de-en.tsv: No such file", id="align: no file"),
    case(ALIGN, write("text/de-en.tsv", b""), "text/de-en.tsv", id="align: empty"),
    case(ALIGN, recode("text/de-en.tsv", "latin-1"), "text/de-en.tsv:1: not UTF-8", id="align: Latin-1"),
    case(ALIGN + " --gold text/a.de", nothing, "text/a.de:1:", "expected i-j", id="align: text for links"),
    case(ALIGN + " --layer 99", nothing, "--layer 99", id="align: no such layer"),
    case(ALIGN + " --text text/de-en.tsv", nothing, "argument --text: given twice", id="align: two texts"),
    # perplexity
    case(PERPLEXITY, remove("text/a.de"), "text/a.de: No such file", id="perplexity: no file"),
    case(PERPLEXITY, write("text/a.de", b""), "text/a.de", "empty", id="perplexity: empty"),
    case(PERPLEXITY, recode("text/a.de", "latin-1"), "text/a.de:1: not UTF-8", id="perplexity: Latin-1"),
    case(PERPLEXITY.replace("a=hf", "a=classifier"), nothing, "model a: classifier", id="perplexity: no head"),
    case(PERPLEXITY + " --output full", remove("text/a.de"), "full: holds files that are no earlier perplexity",
        id="perplexity: onto others"),
    case(PERPLEXITY + " --output text", nothing, "text: holds files that are no earlier perplexity",
        id="perplexity: onto its input"),
    case(PERPLEXITY + " --mask 2", nothing, "argument --mask", id="perplexity: mask all twice"),
    case(PERPLEXITY + " --pairs nowhere --pairs text/de-en.tsv", nothing, "nowhere: no such file",
        id="perplexity: twice"),
    case(PERPLEXITY + f" --seed {HUGE}", nothing, "argument --seed: must be", id="perplexity: a huge seed"),
    # evaluate-xnli
    case(CLASSIFY, lambda world: shutil.rmtree(world / "nli"), "nli: No such file", id="classify: no data"),
    case(CLASSIFY, replace("nli/dev-de.tsv", "neutral", "maybe"), "dev-de.tsv:2: unknown label", id="classify: label"),
    case(CLASSIFY, append("nli/dev-de.tsv", " \tb\tneutral\n"), "dev-de.tsv:41: empty premise", id="classify: half"),
    case(CLASSIFY, write("nli/dev-de.tsv", "a\tb\tneutral\n"), "only labelled row", id="classify: one row"),
    case(CLASSIFY.replace("=classifier", "=hf"), nothing, "model a: hf: no classification head", id="classify: head"),
    case(CLASSIFY, config("classifier/config.json", id2label={"0": "yes", "1": "no", "2": "maybe"}), "model a",
        "yes, no, maybe", id="classify: other classes"),
    case(CLASSIFY, config("classifier/config.json", id2label={"0": "a"}), "classification head", id="classify: labels"),
    case(CLASSIFY + " --langs en,fr", nothing, "--langs fr: not in the data", id="classify: no such language"),
    case(CLASSIFY + " --max-length 999", nothing, "--max-length 999", id="classify: too long"),
    case(CLASSIFY.replace("a=", "a/b="), nothing, "leave the / out", id="classify: a name with /"),
    case(CLASSIFY + " --output full", nothing, "full: holds files that are no", id="classify: onto others"),
    case(CLASSIFY + " --output nli", nothing, "nli: holds files that are no", id="classify: onto its input"),
    case(CLASSIFY.replace("--data", "--data nowhere --data"), nothing, "nowhere: No such file", id="classify: twice"),
    case(CLASSIFY + " --langs en --langs de", nothing, "argument --langs: given twice", id="classify: languages twice"),
    case(CLASSIFY + " --labels neutral,entailment,contradiction", nothing, "--labels neutral,entailment,contradiction",
        "a names its classes itself (entailment, neutral, contradiction)", id="classify: classes that have names"),
    # evaluate-qa
    case(ANSWER, lambda world: shutil.rmtree(world / "qa"), "qa: no such file", id="answer: no data"),
    case(ANSWER, write("qa/dev.de.json", "{"), "dev.de.json: no JSON", id="answer: broken JSON"),
    case(ANSWER.replace("--data", "--data nowhere --data"), nothing, "nowhere: no such file", id="answer: twice"),
    case(ANSWER.replace("=reader", "=hf"), nothing, "model a: hf: no", id="answer: no head"),
    case(ANSWER + " --doc-stride 31", nothing, "--doc-stride 31", id="answer: windows that stand still"),
    case(ANSWER + " --output full", nothing, "full: holds files that are no", id="answer: onto others"),
    case(ANSWER + " --metric mlqa --data fr=pred.json", nothing, "pred.json", id="answer: predictions for data"),
    case(ANSWER + " --data qa/\udcff.de.json", write("qa/\udcff.de.json", "{}"), ".de.json: the name, under which",
        id="answer: a name that is not UTF-8"),
    case(ANSWER.replace("a=", "\udcff="), nothing, "the name is not UTF-8", id="answer: a model's name"),
    case(SCORE, remove("pred.json"), "pred.json: no such file", id="score: no predictions"),
    case(SCORE, cut("pred.json"), "pred.json: no JSON", id="score: truncated"),
    case(SCORE, write("pred.json", '{"q0": ["abc"]}'), "'q0' has ['abc'] for an answer", id="score: a list"),
    case(SCORE, write("pred.json", '{"q0": "a", "q0": "b"}'), "'q0' stands twice", id="score: an id twice"),
    case(SCORE.replace("pred.json", "out/pred.json"), both(as_folder("out"), write("out/pred.json", "{}")),
        "out/pred.json: lies in --output", id="score: predictions in the output"),
    case("ppa evaluate-qa --data qa", nothing, "neither --model nor --predictions", id="score: nothing to measure"),
    # fairseq-train
    case(TRAIN.replace(" bin ", " nowhere "), nothing, "nowhere: no such folder", id="train: no data"),
    case(TRAIN.replace(" bin ", " text "), nothing, "text: no language pair at all", id="train: raw text"),
    case(TRAIN, cut("bin/train.de-en.de.bin"), "bin/train.de-en.de.bin and .idx: damaged", id="train: truncated .bin"),
    case(TRAIN, cut("bin/train.de-en.de.idx"), "bin/train.de-en.de.bin and .idx: damaged", id="train: truncated .idx"),
    case(TRAIN, write("bin/train.de-en.de.idx", b""), "bin/train.de-en.de.bin and .idx: damaged", id="train: empty"),
    case(TRAIN, edit("bin/train.de-en.en.bin", foreign), "bin/train.de-en.en.bin: row 1 has the id", "ends at 60",
        id="train: an id beyond the dictionary"),
    case(TRAIN, append("bin/dict.de.txt", "extra 1\n"), "dict.en.txt differs", id="train: two dictionaries"),
    case(TRAIN, both(append("bin/dict.de.txt", "q 1\n"), append("bin/dict.en.txt", "q 1\n")), "61 WordPieces",
        "62", id="train: dictionary of another model"),
    case(TRAIN, cut("imported/model.pt"), "model.pt: truncated", id="train: truncated encoder"),
    case(TRAIN, write("checkpoints/checkpoint_last.pt", b"PK\x03\x04"), "checkpoint_last.pt: incomplete",
        id="train: truncated checkpoint"),
    case(TRAIN + " --lang-pairs fr-en", nothing, "no language pair fr-en", id="train: no such pair"),
    case(TRAIN + " --mask-prob 2", nothing, "--mask-prob must be", id="train: mask all twice"),
    case(TRAIN + " --queue-size 2", nothing, "--queue-size 2 is smaller", id="train: a queue too small"),
    case(TRAIN + " --encoder-layers 7", nothing, "--encoder-layers is 7", id="train: another depth"),
    case(TRAIN_XNLI, cut("nli-bin/en/label/train.bin"), "label/train.bin and .idx: damaged", id="nli: truncated"),
    case(TRAIN_XNLI, edit("nli-bin/en/input1/valid.bin", foreign), "input1/valid.bin: row 1 has the id",
        id="nli: an id beyond the dictionary"),
    case(TRAIN_XNLI, remove("nli-bin/en/input1/train.idx"), "input1/train.idx: no such file", id="nli: half"),
    case(TRAIN_XNLI + " --train-langs xx", nothing, "no training data in 'xx'", id="nli: no such language"),
    case(TRAIN_XNLI + " --code-switch", nothing, "--code-switch mixes other languages", id="nli: no mix"),
    case(TRAIN_XNLI + " --code-switch-prob 0.5", nothing, "do nothing without --code-switch", id="nli: lone flag"),
    case(TRAIN_XNLI + " --max-length 4", nothing, "--max-length 4 must be", id="nli: no room"),
    case(TRAIN_XNLI + " --best-checkpoint-metric accuracy_xx", nothing, "accuracy_xx", id="nli: metric"),
    case(TRAIN_MLQA, write("qa-bin/qa.json", "{"), "qa.json: no JSON", id="mlqa: broken sizes"),
    case(TRAIN_MLQA, append("qa-bin/en/train.ids.txt", "more\n"), "41 ids", id="mlqa: an id more"),
    case(TRAIN_MLQA, replace("qa-bin/en/train.ids.txt", "q1\n", "q0\n"), "an id stands twice", id="mlqa: id twice"),
    case(TRAIN_MLQA, cut("qa-bin/en/train.answer.bin"), "train.answer.bin and .idx: damaged", id="mlqa: answers"),
    case(TRAIN_MLQA, edit("qa-bin/en/train.context.bin", foreign), "train.context.bin: row 1 has the id",
        id="mlqa: an id beyond the dictionary"),
    case(TRAIN_MLQA + " --doc-stride 90", nothing, "--doc-stride 90", id="mlqa: windows"),
    # fairseq-validate
    case(VALIDATE, remove("trained.pt"), "trained.pt", id="validate: no checkpoint"),
    case(VALIDATE, cut("trained.pt"), "truncated", id="validate: truncated"),
    case(VALIDATE.replace("trained.pt", "imported/model.pt"), nothing, "tells of no training",
        id="validate: an import"),
    case(VALIDATE.replace(" bin ", " nowhere "), nothing, "nowhere: no such folder", id="validate: no data"),
    case(VALIDATE + " --valid-subset test", nothing, "the test split of de-en", id="validate: no such split"),
    # fairseq-preprocess
    case(PREPROCESS.replace("imported/dict.txt", "nothing.txt"), nothing, "nothing.txt: no such file",
        id="preprocess: no dictionary"),
    case(PREPROCESS, write("imported/dict.txt", "a 1\n"), "dict.txt: no [CLS]", id="preprocess: other dictionary"),
    case(PREPROCESS.replace("--srcdict imported/dict.txt", ""), nothing, "the vocabulary is the base model's",
        id="preprocess: none given"),
    case(PREPROCESS, remove("prepared/train.de-en.de"), "train.de-en.de", id="preprocess: no text"),
]  # fmt: skip
