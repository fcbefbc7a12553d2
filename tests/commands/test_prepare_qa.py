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
from ppa_fairseq.data.qa.encoder import answer_spans, token_span
from ppa_fairseq.data.qa.squad import Question, read_squad
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

    def written(name, *paragraphs):
        data = [
            {
                "context": context,
                "qas": [
                    {"id": i, "question": q, "answers": [{"text": t, "answer_start": s} for t, s in answers]}
                    for i, q, answers in questions
                ],
            }
            for context, questions in paragraphs
        ]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"data": [{"paragraphs": data}]}))
        return path

    return written


def read(folder, language, split):
    """Rows of the three parts, ids, and the offsets cut to rows as long as the context's."""
    prefix = f"{folder / language / split}."
    rows = {part: [row.tolist() for row in MMapIndexedDataset(prefix + part)] for part in PARTS}
    ids = Path(f"{prefix}ids.txt").read_text("utf-8").split("\n")
    assert ids.pop() == ""
    offsets = np.load(f"{prefix}offsets.npy")
    ends = np.cumsum([len(row) for row in rows["context"]])
    assert offsets.dtype == np.int32 and len(offsets) == ends[-1]
    return rows | {"ids": ids, "offsets": np.split(offsets, ends[:-1])}


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WORDLESS = " \u200b"
MIXED = "Überall in BONN, 東京b und à Bonning.  \u200b Ende"


def test_rows_offsets_and_spans_are_those_of_transformers(prepare, write, base):
    answers = ["BONN", "東京b", "東", "und à", "à ", "Bonning.", "Ende", "Überall", "Ü", "  \u200b Ende"]
    questions = [(f"q{k}", f"Wo {k}?", [(text, MIXED.index(text))]) for k, text in enumerate(answers)]
    path = write("a.json", (MIXED, questions), ("bonn ah!", [("x", "was", [("ah", 5)])]))
    folder, meta, _ = prepare("--train", f"de={path}")
    rows = read(folder, "de", "train")
    assert rows["ids"] == [*(f"q{k}" for k in range(len(answers))), "x"]
    theirs = BertTokenizer.from_pretrained(base)
    for k, question in enumerate(read_squad(path)):
        encoding = theirs(question.question, question.context, return_offsets_mapping=True)
        first = encoding.sequence_ids().index(1)
        assert [VOCABULARY.index("[CLS]"), *rows["question"][k], *rows["context"][k]] == encoding["input_ids"]
        assert rows["offsets"][k][:-1].tolist() == [list(pair) for pair in encoding["offset_mapping"][first:-1]]
        assert rows["offsets"][k][-1].tolist() == [len(question.context.rstrip("!")) + (k == 10)] * 2
        ((text, start),) = question.answers
        places = [start + n for n, letter in enumerate(text) if letter not in WORDLESS]
        span = [encoding.char_to_token(place, sequence_index=1) - first for place in (places[0], places[-1])]
        assert rows["answer"][k] == span
    assert len(rows["ids"]) == 11
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


def test_faults_of_answers_are_described():
    offsets = np.array([(0, 2), (3, 7), (7, 10), (11, 12)])
    answers = [("Bonn", 3), ("Bonn", 4), ("onni", 4), (" ", 2), ("", 3), ("o\u200b", -2), ("x", 99), ("to ", 0)]
    spans, faults = answer_spans(Question("a", "?", "to Bonning o\u200b", tuple(answers), "f"), offsets)
    assert spans == [(1, 1), (1, 2), (0, 0)]
    assert faults == [
        ("misplaced", "f: 'Bonn' is not at 4, but 'onni'"),
        ("widened", "f: 'onni' becomes 'Bonning'"),
        ("unmapped", "f: ' ' has no token"),
        ("unmapped", "f: '' has no token"),
        ("misplaced", "f: 'o\\u200b' is not at -2, but ''"),
        ("misplaced", "f: 'x' is not at 99, but ''"),
    ]


def test_every_question_is_kept_or_counted(prepare, write):
    path = write(
        "a.json",
        (
            "to bonn %",
            [
                ("kept", "a?", [("to", 0), ("bonn", 3)]),
                ("second", "a?", [("bonn", 0), ("bonn", 3), ("to", 0)]),
                ("unanswerable", "a?", []),
                ("misplaced", "a?", [("bonn", 2), (" ", 2)]),
                ("unmapped", "a?", [(" ", 2), ("bonn", 2)]),
                ("blank", "\u200b", [("bonn", 3)]),
                ("widened", "a?", [("bon", 3)]),
            ],
        ),
        ("\u200b", [("wordless", "a?", [("\u200b", 0)])]),
    )
    other = write("b.json", ("bonn", [("fine", "b", [("bonn", 0)])]))
    folder, meta, printed = prepare("--train", f"en={path}", "--valid", f"en={other}", f"de={path}")
    for language, split in (("en", "train"), ("de", "valid")):
        rows = read(folder, language, split)
        assert rows["ids"] == ["kept", "second", "widened"]
        assert rows["answer"] == [[0, 1], [2, 2], [2, 2]]
        counts = meta["statistics"][language][split]
        assert counts["dropped"] == {"unanswerable": 1, "misplaced": 1, "unmapped": 2, "blank": 1}
        assert counts["read"] == 8 == counts["kept"] + sum(counts["dropped"].values())
        assert counts["faults"] == {"misplaced": 3, "unmapped": 3, "widened": 1}
        assert counts["places"]["misplaced"] == [
            f"{path}: paragraph 1: question second: 'bonn' is not at 0, but 'to b'",
            f"{path}: paragraph 1: question misplaced: 'bonn' is not at 2, but ' bon'",
            f"{path}: paragraph 1: question unmapped: 'bonn' is not at 2, but ' bon'",
        ]
        assert (counts["tokens"], counts["unknown"]) == (3 * (2 + 4), 3)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[0] == "|"]
    reasons = ["unanswerable", "misplaced", "unmapped", "blank"]
    assert lines[0] == ["", "read", "kept", *reasons, "windows", "windowless", "cut", "[UNK]"]
    assert lines[2] == ["train en", "8", "3", "1", "1", "2", "1", "3", "0", "0", "16.67%"]
    assert [line[:3] for line in lines[3:]] == [["valid en", "1", "1"], ["valid de", "8", "3"]]
    assert f"  train en: 1, as in {path}: paragraph 1: question widened: 'bon' becomes 'bonn'" in printed.splitlines()
    assert (meta["train"], meta["valid"]) == (["en"], ["en", "de"])


def test_windows_are_counted_at_the_asked_sizes(prepare, write):
    words = "a b c d e f g h i j k l m n o p q r s t"
    spans = ["c", "a b c d e f", "g h i j k", "f g h i j k", "s t"]
    questions = [(f"q{k}", "a " * (k + 1), [(text, words.index(text))]) for k, text in enumerate(spans)]
    path = write("a.json", (words, [*questions, ("long", "b " * 30, [("t", 38)])]))
    folder, meta, printed = prepare("--valid", f"en={path}", "--max-length", 14, "--doc-stride", 4)
    rows = read(folder, "en", "valid")
    assert [len(row) for row in rows["question"]] == [2, 3, 4, 5, 6, 31]  # kept whole
    windows = [context_windows(len(row) - 1, 20, 14, 4) for row in rows["question"]]
    inside = [
        any(start <= first and last < end for start, end in found)
        for (first, last), found in zip(rows["answer"], windows, strict=True)
    ]
    counts = meta["statistics"]["en"]["valid"]
    assert (counts["windows"], counts["windowless"]) == (sum(map(len, windows)), inside.count(False))
    assert (counts["cut"], counts["windowless"]) == (1, 1)
    assert (meta["max_length"], meta["doc_stride"]) == (14, 4)


def test_xlm_roberta(prepare, write, tmp_path):
    tokens = ["▁", "▁b", "onn", "▁to", "i", "n", "g", "a"]
    write_xlm_roberta(tmp_path / "base", tokens, Sequence([WhitespaceSplit(), Metaspace()]))
    text = "to bonning  aa " * 5
    answers = ["bonn", "bo", "aa ", " ", "ning", " bonn"]
    questions = [(f"{k}", "a", [(answer, text.index(answer))]) for k, answer in enumerate(answers)]
    sizes = "--max-length", 16, "--doc-stride", 2
    path = write("a.json", (text, questions))
    folder, meta, _ = prepare("--train", f"en={path}", *sizes, folder=tmp_path / "base")
    rows = read(folder, "en", "train")
    assert rows["ids"] == ["0", "1", "2", "4", "5"]
    assert rows["question"][0] == [4, 11, 2]
    assert rows["context"][0] == [7, 5, 6, 8, 9, 10, 4, 11, 11] * 5 + [2]
    spans = zip(rows["offsets"], rows["answer"], strict=True)
    covered = [text[offsets[first][0] : offsets[last][1]] for offsets, (first, last) in spans]
    assert covered == ["bonn", "bonn", "aa", "onning", "bonn"]
    windows = [len(context_windows(2, 45, 16, 2, specials)) for specials in (3, 4)]
    assert meta["statistics"]["en"]["train"]["windows"] == 5 * windows[1] != 5 * windows[0]


def test_threads_and_batches_change_nothing(prepare, write, monkeypatch):
    contexts = ["bonn " * (1 + k % 7) + f"b{k % 10} to" for k in range(300)]
    questions = [[(f"{k}-{n}", "a b", [("bonn", 0)]) for n in range(k % 3)] for k in range(300)]
    path = write("a.json", *zip(contexts, questions, strict=True))
    one, meta, _ = prepare("--train", f"en={path}")
    monkeypatch.setattr(qa_prepare, "BATCH", 7)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    several, _, _ = prepare("--train", f"en={path}", "--workers", 2, out="several")
    assert tree(one) == tree(several)
    assert read(one, "en", "train")["ids"] == [f"{k}-{n}" for k in range(300) for n in range(k % 3)]


def test_a_language_has_several_files(prepare, write):
    first = write("a.json", ("bonn", [("1", "a", [("bonn", 0)]), ("2", "b", [("bonn", 0)])]))
    second = write("b.json", ("to bonn", [("3", "c", [("bonn", 3)])]))
    third = write("c.json", ("bonn", [("2", "d", [("bonn", 0)]), ("9", "e", [("bonn", 0)])]))
    arguments = "--train", f"en={first},{second}", f"de={third}", "--train", f"sw={first}", f"sw={third}", "--renumber"
    folder, meta, printed = prepare(*arguments)
    assert read(folder, "en", "train")["ids"] == ["1", "2", "3"]
    assert read(folder, "sw", "train")["ids"] == ["a.json:1", "a.json:2", "c.json:1", "c.json:2"]
    assert meta["in_en_too"] == {"de": 1, "sw": 0}
    assert printed.splitlines()[-2:] == [
        "de: 1 training questions exist in English, too (for code-switching)",
        "sw: 0 training questions exist in English, too (for code-switching)",
    ]
    message = prepare(*arguments[:-1], status=1, out="other")
    assert f"{third}: paragraph 1: question 2: {first}: paragraph 1: question 2 has the same id;" in message


def test_an_earlier_run_is_replaced_but_nothing_else(prepare, write):
    path = write("a.json", ("bonn", [("1", "a", [("bonn", 0)])]))
    prepare("--train", f"de={path}")
    folder, _, _ = prepare("--train", f"en={path}")
    names = {"en", "dict.txt", "qa.json", ".ppa-output.json", "tokenizer.json", *TOKENIZER}
    assert {file.name for file in folder.iterdir()} == names
    for name in ("notes.md", "en/notes.md"):
        (folder / name).write_text("mine")
        assert f"qa: holds {name}, which `ppa prepare-qa` did not write" in prepare("--train", f"en={path}", status=1)
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "neither --train nor --valid"),
        (["--train", "{path}"], "--train {path}: expected LANG=FILE[,FILE...]"),
        (["--valid", "e-n={path}"], "--valid e-n={path}: expected LANG=FILE[,FILE...]"),
        (["--train", "en=none.json"], "none.json: no such file; --train en needs SQuAD-format files"),
        (["--train", "en={path},"], ".: is a folder; --train en needs SQuAD-format files"),
        (["--train", "en={path},{path}"], "{path}: given twice; --train en needs"),
        (["--train", "en={path}", "--valid", "en={broken}"], "{broken}: not JSON"),
        (["--train", "en={path}", "de={poor}"], "--train de: none of 2 questions has an answer to learn from"),
        (["--train", "en={path}", "de={poor}"], "{poor}: paragraph 1: question 1: 'x' is not at 0, but 'b'"),
        (["--train", "en={path}", "--max-length", "100"], "--max-length 100 with --doc-stride 128: "),
        (["--train", "en={path}", "--tokenizer", "{broken}"], "broken.json: no such folder; make it with"),
    ],
)
def test_bad_input_is_refused_in_one_line(prepare, write, tmp_path, arguments, message):
    names = {
        "path": write("a.json", ("bonn", [("1", "a", [("bonn", 0)])])),
        "poor": write("poor.json", ("bonn", [("1", "a", [("x", 0)]), ("2", "a", [])])),
        "broken": tmp_path / "broken.json",
    }
    names["broken"].write_text("{")
    assert message.format(**names) in prepare(*(argument.format(**names) for argument in arguments), status=1)
    assert not list(tmp_path.glob("*qa*"))


def test_mlqa_rows_make_the_sequences_of_transformers(prepare, shared_data):
    base = shared_data("standin")
    theirs = BertTokenizer.from_pretrained(base)
    files = [shared_data("mlqa-dev") / f"dev-context-{c}-question-{q}.json" for c, q in (("es", "zh"), ("zh", "ar"))]
    folder, meta, _ = prepare("--valid", f"es={files[0]}", f"zh={files[1]}", folder=base)
    windows_in_all = 0
    for language, path in zip(("es", "zh"), files, strict=True):
        rows, questions = read(folder, language, "valid"), read_squad(path)
        assert rows["ids"] == [question.id for question in questions]
        sequences = theirs(
            [question.question for question in questions],
            [question.context for question in questions],
            max_length=384,
            stride=128,
            truncation="only_second",
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        found, offsets = [], []
        for question, context, of_row in zip(rows["question"], rows["context"], rows["offsets"], strict=True):
            for start, end in context_windows(len(question) - 1, len(context) - 1, 384, 128):
                found.append([theirs.cls_token_id, *question, *context[start:end], context[-1]])
                offsets.append(of_row[start:end].tolist())
        assert found == sequences["input_ids"]
        for k, of_window in enumerate(offsets):
            first = sequences.sequence_ids(k).index(1)
            assert of_window == [list(pair) for pair in sequences["offset_mapping"][k][first:-1]]
        for question, (first, last), of_row in zip(questions, rows["answer"], rows["offsets"], strict=True):
            text, start = question.answers[0]
            assert of_row[first][0] <= start and start + len(text.rstrip("\u200b")) <= of_row[last][1]
            assert of_row[first][1] > start and of_row[last][0] < start + len(text)
        assert meta["statistics"][language]["valid"]["windows"] == len(found)
        windows_in_all += len(found)
    assert windows_in_all > sum(len(read_squad(path)) for path in files)


@pytest.fixture
def script(tmp_path):
    return partial(run_script, "prepare_mlqa.sh", tmp_path, ppa="printf '%s\\n' \"$@\"")


def test_script_finds_files_by_their_names(script, write, base, tmp_path, monkeypatch, capsys):
    names = [
        "raw/train-v1.1.json",
        "raw/dev-v1.1.json",
        "raw/mlqa translate/de_squad-translate-train-train-v1.1.json",
        "raw/mlqa translate/de_squad-translate-train-dev-v1.1.json",
        "raw/xtreme/squad.translate.train.en-zh.json",
        "raw/MLQA_V1/dev/dev-context-de-question-de.json",
        "raw/MLQA_V1/dev/dev-context-de-question-en.json",
        "raw/MLQA_V1/test/test-context-de-question-de.json",
        "more.json",
    ]
    for name in names:
        write(name, ("bonn", [("1", "a", [("bonn", 0)])]))
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        called = script(base, "raw", "out", *flags)
        assert cli.main(called.stdout.splitlines()) == 0, called.stderr + capsys.readouterr().err
        return json.loads(Path("out/qa.json").read_text("utf-8"))

    meta = run("--train", "sw=more.json", "--max-length", "200")
    assert meta["train"] == ["de", "en", "zh", "sw"]
    assert (meta["valid"], meta["max_length"]) == (["de"], 200)
    for name in names[:5]:
        Path(name).unlink()
    meta = run("--train", "en=more.json")
    assert (meta["train"], meta["valid"]) == (["en"], ["de"])


def test_script_names_what_is_missing(script, base, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "raw: none of the files that this script's head names" in script(base, "raw", "out").stderr
    assert "none: no such folder" in script(base, "none", "out").stderr
    usage = script(base)
    assert usage.returncode == 2
    assert "IMPORTED RAW DEST" in usage.stderr and usage.stderr.endswith("tydiqa.goldp.en.train.json\n")
