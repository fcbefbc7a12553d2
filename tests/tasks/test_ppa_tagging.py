"""The task `ppa_tagging`: tagged words from published files to a model in transformers' own class."""

import csv
import json
import random

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.logging.progress_bar import SimpleProgressBar
from helpers.any_encoder import make_folder
from helpers.hf_folders import make_bert, make_xlm_roberta
from helpers.training import TAGGING, TINY_FINETUNING, assert_same_training, run_training
from seqeval.metrics import f1_score
from transformers import AutoModelForTokenClassification, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.data.tagging.dataset import NO_CLASS, TaggingDataset, load_tagging
from ppa_fairseq.evaluation.tagging.tagger import Tagger
from ppa_fairseq.utils.errors import InputError

TAGS = {"a": "B-PER", "b": "I-PER", "c": "B-LOC"}  # by a word's first letter; others are O
LABELS = ["B-LOC", "B-PER", "I-PER", "O"]
KINDS = {"bert": make_bert, "xlm-roberta": make_xlm_roberta, "transformers": None}


def run(*command) -> None:
    assert cli.main(list(map(str, command))) == 0


def sentences(count, seed):
    draw = random.Random(seed)
    return [
        ["".join(draw.choices("abcdefgh", k=draw.randint(1, 5))) for _ in range(draw.randint(1, 9))]
        for _ in range(count)
    ]


def write_wikiann(path, language, rows):
    lines = ("".join(f"{language}:{word}\t{TAGS.get(word[0], 'O')}\n" for word in words) for words in rows)
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """WikiANN's files, which say their language in each word."""
    root = tmp_path_factory.mktemp("wikiann")
    for name, language, size in (("train", "en", (120, 1)), ("dev", "en", (30, 2)), ("dev", "de", (25, 3))):
        (root / language).mkdir(exist_ok=True)
        write_wikiann(root / language / name, language, sentences(*size))
    return root


@pytest.fixture(scope="module", params=KINDS)
def prepared(request, files, tmp_path_factory):
    """A kind of encoder, its folder, and what is prepared for it: text and data-bin."""
    root = tmp_path_factory.mktemp(request.param.replace("-", ""))
    if make := KINDS[request.param]:
        (root / "hf").mkdir()
        make(root / "hf")
    else:
        letters = "abcdefgh"
        own = ["[PAD]", *(f"[unused{i}]" for i in range(1, 6)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        make_folder(root / "hf", "ModernBERT", [*own, *letters, *(f"##{letter}" for letter in letters)])
    run("import-hf", root / "hf", root / "base")
    run("prepare-tagging", "--tokenizer", root / "base", "--out", root / "text", "--train", f"en={files}/en/train",
        "--valid", f"en={files}/en/dev", f"de={files}/de/dev")  # fmt: skip
    run("binarize", root / "text", "--destdir", root / "bin", "--workers", "1")
    return request.param, root


def finetune(root, save_dir, *flags, validation=False):
    settings = [flag for flag in TINY_FINETUNING if not (validation and flag == "--disable-validation")]
    arguments = [str(root / "bin"), *settings, *TAGGING, "--pretrained", str(root / "base"), *flags]
    return run_training(arguments, save_dir)


def evaluate(model, files, out, *flags):
    """The results by language, and the predicted tags by language and sentence."""
    run("evaluate-tagging", "--model", f"m={model}", "--data", f"en={files}/en/dev", f"de={files}/de/dev",
        "--output", out, *flags)  # fmt: skip
    results = json.loads((out / "tagging.json").read_text())["results"]
    tags = {}
    with open(out / "predictions-m.tsv", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            tags.setdefault((row["language"], int(row["sentence"])), []).append((row["gold"], row["predicted"]))
    return {result["language"]: result for result in results}, tags


def as_transformers_reads(folder, words):
    """A sentence's batch, and the places of the words' first tokens, as transformers' scripts for NER have them."""
    batch = AutoTokenizer.from_pretrained(folder)(words, is_split_into_words=True, return_tensors="pt")
    places = {}
    for place, word in enumerate(batch.word_ids()):
        if word is not None:
            places.setdefault(word, place)
    return batch, list(places.values())


def test_tags_stand_where_transformers_has_them(prepared, files):
    _, root = prepared
    dictionary = WordPieceDictionary.load(str(root / "bin" / "en" / "input0" / "dict.txt"))
    labels = Dictionary.load(str(root / "bin" / "en" / "label" / "dict.txt"))
    corpora = load_tagging(str(root / "bin"), "valid", ["en"], labels, dictionary)
    dataset = TaggingDataset(corpora, [0], ["en"], PairLayout(dictionary, 64, 1), seed=1)
    for item, words in enumerate(sentences(30, 2)):
        batch, places = as_transformers_reads(root / "hf", words)
        example = dataset[item]
        assert example["tokens"].tolist() == batch["input_ids"][0].tolist()
        assert not example["token_types"].any()
        expected = np.full(len(example["tokens"]), NO_CLASS)
        expected[places] = [LABELS.index(TAGS.get(word[0], "O")) for word in words]
        assert example["target"].tolist() == expected.tolist()


def test_the_export_has_the_same_logits_tags_and_f1(prepared, files, tmp_path):
    kind, root = prepared
    arch = ["--arch", "ppa_transformers_tagger"] if kind == "transformers" else []
    finetune(root, tmp_path / "run", *arch, "--max-epoch", "8", "--lr", "3e-3")
    run("export-hf", tmp_path / "run" / "checkpoint_last.pt", tmp_path / "hf")
    model, found = AutoModelForTokenClassification.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert model.config.id2label == dict(enumerate(LABELS)) and model.config.problem_type is None

    results, tags = evaluate(tmp_path / "run" / "checkpoint_last.pt", files, tmp_path / "ours")
    tagger = Tagger(checkpoint.read(tmp_path / "run" / "checkpoint_last.pt"), "it")
    for language, size in (("en", (30, 2)), ("de", (25, 3))):
        gold, predicted = [], []
        for number, words in enumerate(sentences(*size), 1):
            batch, places = as_transformers_reads(tmp_path / "hf", words)
            with torch.no_grad():
                logits = model.eval()(**batch).logits[0]
                packed = tagger.pack([tagger.layout.lay(batch["input_ids"][0].numpy()[1:-1])])
                ours = tagger.head(tagger.encoder(**packed)["hidden"])
            torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
            gold.append([TAGS.get(word[0], "O") for word in words])
            predicted.append([LABELS[i] for i in logits[places].argmax(1)])
            assert tags[language, number] == list(zip(gold[-1], predicted[-1], strict=True))
        assert results[language]["f1"] == pytest.approx(100 * f1_score(gold, predicted))
        assert results[language]["low"] < results[language]["f1"] < results[language]["high"] or kind != "bert"
    if kind == "bert":  # where the first token is the letter that decides
        assert results["average"]["f1"] > 60
    if kind != "transformers":  # whose folders are read without a head
        assert evaluate(tmp_path / "hf", files, tmp_path / "theirs")[0] == results


@pytest.fixture(scope="module")
def bert(files, tmp_path_factory):
    """Parts of speech in CoNLL-U, prepared for a BERT."""
    root = tmp_path_factory.mktemp("pos")
    (root / "hf").mkdir()
    make_bert(root / "hf")
    run("import-hf", root / "hf", root / "base")
    for name, size in (("train-en", (60, 4)), ("dev-en", (20, 5)), ("dev-de", (20, 6))):
        text = ""
        for words in sentences(*size):
            tagged = [(word, "NOUN" if word[0] in "abcd" else "VERB") for word in words]
            rows = ([str(i), word, "_", tag, *"______"] for i, (word, tag) in enumerate(tagged, 1))
            text += "# text = #\n" + "".join("\t".join(row) + "\n" for row in rows) + "\n"
        (root / f"{name}.conllu").write_text(text)
    run("prepare-tagging", "--tokenizer", root / "base", "--out", root / "text", "--train", root / "train-en.conllu",
        "--valid", root / "dev-en.conllu", root / "dev-de.conllu")  # fmt: skip
    run("binarize", root / "text", "--destdir", root / "bin", "--workers", "1")
    return root


def test_validation_measures_what_the_command_measures(bert, tmp_path, monkeypatch, capsys):
    logged = {}
    monkeypatch.setattr(SimpleProgressBar, "print", lambda bar, stats, tag, step: logged.update({tag: dict(stats)}))
    metric = ["--best-checkpoint-metric", "accuracy_avg", "--maximize-best-checkpoint-metric"]
    finetune(bert, tmp_path / "run", "--max-epoch", "3", *metric, validation=True)
    run("evaluate-tagging", "--model", f"m={tmp_path}/run/checkpoint_last.pt", "--data", bert / "dev-en.conllu",
        bert / "dev-de.conllu", "--output", tmp_path / "out")  # fmt: skip
    results = json.loads((tmp_path / "out" / "tagging.json").read_text())["results"]
    for result in results:
        name = f"accuracy_{'avg' if result['language'] == 'average' else result['language']}"
        assert logged["valid"][name] == pytest.approx(result["accuracy"], abs=0.01)
    assert "Accuracy in percent" in capsys.readouterr().out


def test_a_resumed_training_equals_an_uninterrupted_one(bert, tmp_path):
    whole = finetune(bert, tmp_path / "whole", "--max-update", "12", "--max-epoch", "2")
    for stop in ("5", "12"):
        parts = finetune(bert, tmp_path / "parts", "--max-update", stop, "--max-epoch", "2")
    assert_same_training(whole, parts)


def test_what_is_too_long_is_cut_counted_and_wrong(bert, tmp_path, caplog, capsys):
    finetune(bert, tmp_path / "run", "--max-update", "1", "--max-length", "8")
    assert "train en: " in caplog.text and "sentences are cut to --max-length" in caplog.text
    (tmp_path / "test-en.tsv").write_text("a\tNOUN\nbbbbbb\tNOUN\nc\tNOUN\n\nd\t_\ne\tVERB\n")
    run("evaluate-tagging", "--model", f"m={tmp_path}/run/checkpoint_last.pt", "--data", tmp_path / "test-en.tsv",
        "--output", tmp_path / "out", "--max-length", "8")  # fmt: skip
    assert "m: 1 of 2 sentences cut to 8 tokens" in capsys.readouterr().err
    rows = [line.split("\t")[2:] for line in (tmp_path / "out" / "predictions-m.tsv").read_text().splitlines()[1:]]
    assert [row[2] == "" for row in rows] == [False, False, True, False, False]
    right = sum(gold == found for _, gold, found in rows)
    result = json.loads((tmp_path / "out" / "tagging.json").read_text())["results"][0]
    assert result["accuracy"] == pytest.approx(100 * right / 4)  # a word tagged _ does not count


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train-langs", "en,de", "--code-switch"], "no training data in .de., only in en"),
        (["--arch", "ppa_bert_classifier"], "use --task ppa_tagging --criterion tag_prediction --arch ppa_bert_tagger"),
        (["--max-length", "7"], "--max-length 7 must be at least 8"),
    ],
)
def test_flags_that_do_not_fit_are_refused(bert, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        finetune(bert, tmp_path / "run", *flags, "--max-update", "1")


def test_other_tags_are_named(bert, tmp_path, capsys):
    finetune(bert, tmp_path / "run", "--max-update", "1")
    (tmp_path / "test-en.tsv").write_text("a\tN\n")
    command = ["evaluate-tagging", "--model", f"m={tmp_path}/run/checkpoint_last.pt", "--data"]
    assert cli.main([*command, str(tmp_path / "test-en.tsv"), "--output", str(tmp_path / "out")]) == 1
    assert "model m: its tags are NOUN, VERB, and the data has none of them" in capsys.readouterr().err
