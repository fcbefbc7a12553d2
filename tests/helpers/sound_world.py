"""One of everything that the commands read, small and sound: what tests of bad input break, one file at a time."""

import json
import os
import random
import shutil
from pathlib import Path

from helpers.hf_folders import make_bert
from helpers.training import run_training
from transformers import BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification

from ppa_fairseq.commands import main as cli

LABELS = ("entailment", "neutral", "contradiction")
ROWS = 60


def sentences(count: int, seed: int) -> list[str]:
    """Random words, whose lengths do not depend on *seed*, as those of translations do not depend on the language."""
    rng, lengths = random.Random(seed), random.Random(0)
    return ["".join(rng.choices("abcdefgh", k=lengths.randint(4, 9))) + " ab." for _ in range(count)]


def squad(questions: list[tuple[str, str, str]]) -> str:
    """SQuAD-format JSON of (id, context, answer)."""
    entries = [
        {"context": context, "qas": [{"id": name, "question": "abc?", "answers": [
            {"text": answer, "answer_start": context.index(answer)}]}]}
        for name, context, answer in questions
    ]  # fmt: skip
    return json.dumps({"data": [{"paragraphs": entries}]})


def make_world(root: Path) -> None:
    """Write it to *root*, the current folder:

    hf, classifier, reader, tagger   Hugging Face folders; imported, trained.pt: an import, and a training from it
    text/, nli/, qa/, topics/, tags/   raw data in English and German; pred.json: predictions for qa/dev.en.json
    prepared, nli-text          what prepare-bitext and prepare-xnli make of it
    bin, nli-bin, qa-bin        what can be trained on
    full/                       a folder of something else
    """
    for name in ("hf", "classifier", "reader", "tagger", "text", "nli", "qa", "topics", "tags", "full", "checkpoints"):
        (root / name).mkdir()
    make_bert(root / "hf")
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    make_bert(root / "classifier", BertForSequenceClassification, **labels)
    make_bert(root / "reader", BertForQuestionAnswering)
    make_bert(root / "tagger", BertForTokenClassification, **labels)
    (root / "full/thesis.txt").write_text("years of work\n")
    german, english = sentences(ROWS, 1), sentences(ROWS, 2)
    for name, lines in {
        "text/a.de": german,
        "text/a.en": english,
        "text/de-en.tsv": map("\t".join, zip(german, english, strict=True)),
    }.items():
        (root / name).write_text("".join(line + "\n" for line in lines))
    for language, seed in (("de", 3), ("en", 4)):
        pairs = zip(sentences(ROWS, seed), sentences(ROWS, seed + 10), strict=True)
        rows = [f"{one}\t{other}\t{LABELS[number % 3]}\n" for number, (one, other) in enumerate(pairs)]
        (root / f"nli/dev-{language}.tsv").write_text("".join(rows))
        rows = [f"{text}\t{LABELS[number % 3]}\n" for number, text in enumerate(sentences(ROWS, seed))]
        (root / f"topics/dev-{language}.tsv").write_text("text\tlabel\n" + "".join(rows))
        rows = [f"{text[0]}\tneutral\n{text[1:4]}\tentailment\n\n" for text in sentences(ROWS, seed)]
        (root / f"tags/dev-{language}.tsv").write_text("".join(rows))
        questions = [(f"q{number}", text, text[:3]) for number, text in enumerate(sentences(ROWS, seed))]
        (root / f"qa/dev.{language}.json").write_text(squad(questions))
    (root / "pred.json").write_text(json.dumps({f"q{number}": "abc" for number in range(ROWS)}))
    before = os.getcwd()
    os.chdir(root)
    try:
        for command in (
            "import-hf hf imported",
            "prepare-bitext de-en=text/de-en.tsv --tokenizer hf --out prepared --min-tokens 1 --valid-share 0.2 "
            "--workers 1",
            "prepare-xnli --train nli/dev-de.tsv nli/dev-en.tsv --valid nli/dev-de.tsv nli/dev-en.tsv --tokenizer hf "
            "--out nli-text --workers 1",
            "prepare-qa --train de=qa/dev.de.json en=qa/dev.en.json --valid en=qa/dev.en.json --tokenizer hf "
            "--out qa-bin --max-length 24 --doc-stride 6 --workers 1",
            "binarize prepared --destdir bin --workers 1",
            "binarize nli-text --destdir nli-bin --workers 1",
        ):
            assert cli.main(command.split()) == 0, command
        training = (
            "bin --task ppa_alignment --arch ppa_bert --criterion ppa --cpu --pretrained imported --queue-size 64 "
            "--optimizer adam --lr 1e-3 --batch-size 16 --max-update 1 --num-workers 0 --disable-validation"
        )
        run_training(training.split(), Path("trained"))
        shutil.copy("trained/checkpoint_last.pt", "trained.pt")
        shutil.rmtree("trained")
    finally:
        os.chdir(before)
