"""`ppa prepare-qa`: rows and spans equal transformers', every question is kept or counted, no half output."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fairseq.data.indexed_dataset import MMapIndexedDataset
from helpers.nli_data import write_xlm_roberta
from helpers.prepare_scripts import run_script
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import Metaspace, Sequence, WhitespaceSplit
from transformers import BertTokenizer

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.qa import prepare as qa_prepare
from ppa_fairseq.data.qa.encoder import token_span
from ppa_fairseq.data.qa.squad import read_squad
from ppa_fairseq.data.qa.windows import context_windows

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?-東京"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIALS, "bonn", "##ing", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY) + "\n", "tokenizer_config.json": '{"do_lower_case": true}'}
PARTS = ("question", "context", "answer")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tokenizer.write_files(TOKENIZER, folder)
    return folder


@pytest.fixture
def prepare(base, tmp_path, capsys):
    """``prepare("--train", "en=…")``: the output folder, its qa.json and the table; with ``status=1`` the error."""

    def run(*arguments, out="qa", status=0, folder=base):
        command = ["prepare-qa", "--tokenizer", str(folder), "--out", str(tmp_path / out), "--workers", "1"]
        found = cli.main([*command, *map(str, arguments)])
        printed = capsys.readouterr()
        assert found == status, printed.err
        if status:
            return printed.err.splitlines()[-1]
        return tmp_path / out, json.loads((tmp_path / out / "qa.json").read_text("utf-8")), printed.out

    return run


@pytest.fixture
def write(tmp_path):
    """``write("a.json", (context, [(id, question, answers)]), …)``: a SQuAD-format file."""

    def entry(name, question, answers):
        return {"id": name, "question": question, "answers": [{"text": t, "answer_start": s} for t, s in answers]}

    def written(name, *paragraphs):
        data = [{"context": context, "qas": [entry(*one) for one in questions]} for context, questions in paragraphs]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"data": [{"paragraphs": data}]}))
        return path

    return written


def read(folder, language, split):
    """Rows of the three parts, and ids."""
    prefix = f"{folder / language / split}."
    rows = {part: [row.tolist() for row in MMapIndexedDataset(prefix + part)] for part in PARTS}
    return rows | {"ids": Path(f"{prefix}ids.txt").read_text("utf-8").splitlines()}


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MIXED = "Überall in BONN, 東京b und à Bonning.  \u200b Ende"


def test_rows_and_spans_are_those_of_transformers(prepare, write, base):
    answers = ["BONN", "東京b", "東", "und à", "à ", "Bonning.", "Ende", "Überall", "Ü", "  \u200b Ende"]
    questions = [(f"q{k}", f"Wo {k}?", [(text, MIXED.index(text))]) for k, text in enumerate(answers)]
    path = write("a.json", (MIXED, questions), ("bonn ah!", [("x", "was", [("ah", 5)])]))
    folder, meta, _ = prepare("--train", f"de={path}")
    rows = read(folder, "de", "train")
    assert rows["ids"] == [*(f"q{k}" for k in range(len(answers))), "x"]
    theirs = BertTokenizer.from_pretrained(base)
    for k, question in enumerate(read_squad(path)):
        encoding = theirs(question.question, question.context)
        first = encoding.sequence_ids().index(1)
        assert [VOCABULARY.index("[CLS]"), *rows["question"][k], *rows["context"][k]] == encoding["input_ids"]
        ((text, start),) = question.answers
        places = [start + n for n, letter in enumerate(text) if letter not in " \u200b"]
        span = [encoding.char_to_token(place, sequence_index=1) - first for place in (places[0], places[-1])]
        assert rows["answer"][k] == span
    assert (meta["max_length"], meta["doc_stride"], meta["train"], meta["valid"]) == (384, 128, ["de"], [])
    assert WordPieceDictionary.load(str(folder / "dict.txt")).symbols == VOCABULARY
    written = tokenizer.ModelTokenizer(tokenizer.read_files(folder), "")
    assert tokenizer.ModelTokenizer(TOKENIZER, "").difference(written) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=12), st.data())
def test_a_span_covers_what_overlaps_it(gaps, data):
    offsets, place = [], 0
    for gap, length in gaps:
        offsets.append((place + gap, place + gap + length))
        place += gap + length
    start = data.draw(st.integers(0, place))
    end = data.draw(st.integers(start, place + 2))
    touched = [k for k, (first, last) in enumerate(offsets) if max(first, start) < min(last, end)]
    assert token_span(np.array(offsets), start, end) == ((touched[0], touched[-1]) if touched else None)


def test_every_question_is_kept_or_counted(prepare, write, caplog):
    path = write(
        "a.json",
        (
            "to bonn %",
            [
                ("kept", "a?", [("to", 0), ("bonn", 3)]),
                ("second", "a?", [("bonn", 0), ("bonn", -6), ("bonn", 3), ("to", 0)]),
                ("unanswerable", "a?", []),
                ("misplaced", "a?", [("bonn", 2), ("x", 99)]),
                ("tokenless", "a?", [(" ", 2), ("", 3)]),
                ("blank", "\u200b", [("bonn", 3)]),
                ("part", "a?", [("bon", 3)]),
            ],
        ),
        ("\u200b", [("wordless", "a?", [("\u200b", 0)])]),
    )
    other = write("b.json", ("bonn", [("fine", "b", [("bonn", 0)])]))
    folder, meta, printed = prepare("--train", f"en={path}", "--valid", f"en={other}", f"de={path}")
    for language, split in (("en", "train"), ("de", "valid")):
        rows = read(folder, language, split)
        assert rows["ids"] == ["kept", "second", "part"]
        assert rows["answer"] == [[0, 1], [2, 2], [2, 2]]
        counts = meta["statistics"][language][split]
        assert counts["dropped"] == {"unanswerable": 1, "misplaced": 3, "blank": 1}
        assert (counts["read"], counts["kept"]) == (8, 3)
        assert (counts["tokens"], counts["unknown"]) == (3 * (2 + 4), 3)
    first = f"{path}: paragraph 1: question misplaced: no answer is at its answer_start; left out, with others like it"
    assert caplog.messages == [first] * 2
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[0] == "|"]
    assert lines[0] == ["", "read", "kept", "unanswerable", "misplaced", "blank", "[UNK]"]
    assert lines[2] == ["train en", "8", "3", "1", "3", "1", "16.67%"]
    assert [line[:3] for line in lines[3:]] == [["valid en", "1", "1"], ["valid de", "8", "3"]]
    assert (meta["train"], meta["valid"]) == (["en"], ["en", "de"])


def test_xlm_roberta(prepare, write, tmp_path):
    tokens = ["▁", "▁b", "onn", "▁to", "i", "n", "g", "a"]
    write_xlm_roberta(tmp_path / "base", tokens, Sequence([WhitespaceSplit(), Metaspace()]))
    text = "to bonning  aa "
    answers = {"bonn": (1, 2), "bo": (1, 2), "aa ": (6, 8), "ning": (2, 5), " bonn": (1, 2)}
    questions = [(answer, "a", [(answer, text.index(answer))]) for answer in (*answers, " ")]
    path = write("a.json", (text, questions))
    folder, meta, _ = prepare("--train", f"en={path}", "--max-length", 16, "--doc-stride", 2, folder=tmp_path / "base")
    rows = read(folder, "en", "train")
    assert rows["ids"] == list(answers)
    assert rows["question"][0] == [4, 11, 2]
    assert rows["context"][0] == [7, 5, 6, 8, 9, 10, 4, 11, 11, 2]
    assert rows["answer"] == list(map(list, answers.values()))
    assert (meta["max_length"], meta["doc_stride"]) == (16, 2)


def test_threads_and_batches_change_nothing(prepare, write, monkeypatch):
    contexts = ["bonn " * (1 + k % 7) + f"b{k % 10} to" for k in range(300)]
    questions = [[(f"{k}-{n}", "a b", [("bonn", 0)]) for n in range(k % 3)] for k in range(300)]
    path = write("a.json", *zip(contexts, questions, strict=True))
    one, _, _ = prepare("--train", f"en={path}")
    monkeypatch.setattr(qa_prepare, "BATCH", 7)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    several, _, _ = prepare("--train", f"en={path}", "--workers", 2, out="several")
    assert tree(one) == tree(several)
    assert read(one, "en", "train")["ids"] == [f"{k}-{n}" for k in range(300) for n in range(k % 3)]


def test_a_language_has_several_files(prepare, write):
    first = write("a.json", ("bonn", [("1", "a", [("bonn", 0)]), ("2", "b", [("bonn", 0)])]))
    second = write("b.json", ("to bonn", [("3", "c", [("bonn", 3)])]))
    third = write("c.json", ("bonn", [("2", "d", [("bonn", 0)]), ("9", "e", [("bonn", 0)])]))
    arguments = "--train", f"en={first},{second}", f"de={third}", "--train", f"sw={first}", f"sw={third}"
    prepare("--valid", f"de={first}")
    folder, _, _ = prepare(*arguments, "--renumber")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"en", "de", "sw"}
    assert not (folder / "de" / "valid.ids.txt").exists()  # the earlier run is replaced
    assert read(folder, "en", "train")["ids"] == ["1", "2", "3"]
    assert read(folder, "sw", "train")["ids"] == ["a.json:1", "a.json:2", "c.json:1", "c.json:2"]
    message = prepare(*arguments, status=1, out="other")
    assert f"{first}: paragraph 1: question 2: another question has the same id" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "neither --train nor --valid"),
        (["--train", "a.json"], "--train a.json: expected LANG=FILE[,FILE...]"),
        (["--valid", "e-n=a.json"], "--valid e-n=a.json: expected LANG=FILE[,FILE...]"),
        (["--train", "en=none.json"], "none.json: No such file or directory; give an existing path"),
        (["--train", "en=a.json,"], ".: Is a directory; give a file"),
        (["--train", "en=a.json", "--valid", "en=broken.json"], "broken.json: another format (Expecting"),
        (["--train", "en=a.json", "de=poor.json"], "--train de: none of 2 questions has an answer to learn from: "),
        (["--train", "en=a.json", "--max-length", "100"], "--max-length 100 with --doc-stride 128: "),
        (["--train", "en=a.json", "--tokenizer", "none"], "none: no such folder; make it with"),
    ],
)
def test_bad_input_is_refused_in_one_line(prepare, write, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write("a.json", ("bonn", [("1", "a", [("bonn", 0)])]))
    write("poor.json", ("bonn", [("1", "a", [("x", 0)]), ("2", "a", [])]))
    Path("broken.json").write_text("{")
    assert message in prepare(*arguments, status=1)
    assert not list(tmp_path.glob("*qa*"))


def test_mlqa_rows_make_the_sequences_of_transformers(prepare, shared_data):
    base = shared_data("standin")
    theirs = BertTokenizer.from_pretrained(base)
    path = shared_data("mlqa-dev") / "dev-context-zh-question-ar.json"
    folder, _, _ = prepare("--valid", f"zh={path}", folder=base)
    rows, questions = read(folder, "zh", "valid"), read_squad(path)
    assert rows["ids"] == [question.id for question in questions]
    sides = [question.question for question in questions], [question.context for question in questions]
    windows = theirs(*sides, max_length=384, stride=128, truncation="only_second", return_overflowing_tokens=True)
    found = []
    for question, context in zip(rows["question"], rows["context"], strict=True):
        for start, end in context_windows(len(question) - 1, len(context) - 1, 384, 128):
            found.append([theirs.cls_token_id, *question, *context[start:end], context[-1]])
    assert found == windows["input_ids"] and len(found) > len(questions)
    whole = theirs(*sides)
    for row, question in enumerate(questions):
        text, start = question.answers[0]
        first = whole.sequence_ids(row).index(1)
        ends = start, start + len(text.rstrip("\u200b")) - 1
        assert rows["answer"][row] == [whole.char_to_token(row, end, sequence_index=1) - first for end in ends]


@pytest.fixture
def script(tmp_path):
    return partial(run_script, "prepare_mlqa.sh", tmp_path, ppa="printf '%s\\n' \"$@\"")


def test_script_finds_files_by_their_names(script, tmp_path):
    names = """
        raw/MLQA_V1/dev/dev-context-de-question-de.json raw/MLQA_V1/dev/dev-context-de-question-en.json
        raw/MLQA_V1/test/test-context-de-question-de.json raw/dev-v1.1.json
        raw/translate/de_squad-translate-train-dev-v1.1.json raw/translate/de_squad-translate-train-train-v1.1.json
        raw/train-v1.1.json.gz raw/xtreme/squad.translate.train.en-zh.json
    """.split()
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    train, valid = [f"en={names[6]}", f"de={names[5]}", f"zh={names[7]}"], [f"de={names[0]}"]
    command, added = ["prepare-qa", "--tokenizer", "imported", "--out", "out"], ["--train", "sw=more.json"]
    called = script("imported", "raw", "out", *added).stdout.splitlines()
    assert called == [*command, "--train", *train, "--valid", *valid, *added]
    for name in names[5:]:
        (tmp_path / name).unlink()
    assert script("imported", "raw", "out", *added).stdout.splitlines() == [*command, "--valid", *valid, *added]


def test_script_names_what_is_missing(script, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "raw: none of the files that this script's head names" in script("imported", "raw", "out").stderr
    assert "none: no such folder" in script("imported", "none", "out").stderr
    usage = script("imported")
    assert usage.returncode == 2 and "IMPORTED RAW DEST" in usage.stderr
