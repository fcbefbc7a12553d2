"""`ppa prepare-xnli` writes the tokenizer's tokens, rows of all languages side by side, or says which do not fit."""

import json
import random
import re
import shutil
import string
from functools import partial
from zlib import crc32

import pytest
import tokenizers
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDataset
from helpers.nli_data import write_xlm_roberta
from helpers.prepare_scripts import REAL_PPA, run_script
from tokenizers.pre_tokenizers import Metaspace

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.nli import encoder
from ppa_fairseq.data.nli.files import find_nli
from ppa_fairseq.data.nli.reader import LABELS, read_nli

LETTERS = string.ascii_letters + string.digits + ".,"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY) + "\n", "tokenizer_config.json": '{"do_lower_case": false}'}
XNLI_HEADER = "language gold_label sentence1_parse sentence1 sentence2 promptID pairID genre label1 match".split()
PARALLEL = "give files whose rows are translations of each other"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tokenizer.write_files(TOKENIZER, folder)
    return folder


@pytest.fixture
def prepare(base, tmp_path, capsys):
    """``prepare("--train", path)``: run the command; its output folder, statistics and table, or the error."""

    def run(*arguments, out="text", status=0, tokenizer=base):
        folder = tmp_path / out
        command = ["prepare-xnli", "--tokenizer", tokenizer, "--out", folder, "--workers", "1", *arguments]
        found = cli.main(list(map(str, command)))
        printed = capsys.readouterr()
        assert found == status, printed.err
        if status:
            return printed.err.splitlines()[-1]
        return folder, json.loads((folder / "statistics.json").read_text()), printed.out

    return run


def make_rows(language, count, seed=0):
    """*count* rows whose sentences begin with the language and the row's number; labels go by the number."""
    draw = random.Random(f"{language}{seed}")
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(30)]
    return [
        [f"{language}{row} {' '.join(draw.choices(words, k=draw.randint(1, 7)))}{sign}" for sign in (".", ",")]
        + [LABELS[row * row % 3]]
        for row in range(count)
    ]


def write_tsv(path, rows, header=None):
    lines = [*([header] if header else []), *rows]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), newline="\n")
    return path


def write_multinli_mt(path, rows):
    rows = [[a, b, label.replace("contradiction", "contradictory")] for a, b, label in rows]
    return write_tsv(path, rows, ["premise", "hypo", "label"])


def write_xnli(path, by_language, order=None):
    """Official TSV: all languages in one file, rows in any *order*, matched by pairID alone."""
    rows = [
        [language, label, "(ROOT)", premise, hypothesis, "7", str(number + 1), "fiction", label, "True"]
        for language, rows in by_language.items()
        for number, (premise, hypothesis, label) in enumerate(rows)
    ]
    return write_tsv(path, sorted(rows, key=order) if order else rows, XNLI_HEADER)


def texts(folder, language, split):
    """Rows of a split, (input0, input1, label), as they stand in the folder."""
    parts = [(folder / language / f"{split}.{part}").read_text().split("\n") for part in ("input0", "input1", "label")]
    assert [part.pop() for part in parts] == [""] * 3
    return list(zip(*parts, strict=True))


def encoded(rows):
    """The same by the tokenizers library."""
    oracle = tokenizers.BertWordPieceTokenizer(
        dict(zip(VOCABULARY, range(len(VOCABULARY)), strict=True)), lowercase=False
    )
    return [
        (*(" ".join(oracle.encode(text, add_special_tokens=False).tokens) for text in (a, b)), label)
        for a, b, label in rows
    ]


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_official_files_become_the_tokenizers_own_tokens(prepare, tmp_path):
    train = {language: make_rows(language, 40) for language in ("en", "fr", "zh")}
    valid = {language: make_rows(language, 12, seed=1) for language in ("ar", "en", "fr", "zh")}
    test = {language: make_rows(language, 15, seed=2) for language in ("en", "sw")}
    valid["ar"][3][0] = 'No “letter” of "ours": 你好'
    files = [write_multinli_mt(tmp_path / f"multinli.train.{name}.tsv", rows) for name, rows in train.items()]
    dev = write_xnli(tmp_path / "xnli.dev.tsv", valid)
    of_test = write_xnli(tmp_path / "xnli.test.tsv", test, order=lambda row: crc32(row[3].encode()))
    folder, statistics, printed = prepare("--train", *files, "--valid", dev, "--test", of_test)
    for split, by_language in (("train", train), ("valid", valid)):
        for language, rows in by_language.items():
            assert texts(folder, language, split) == encoded(rows)
            labels = {label: sum(row[2] == label for row in rows) for label in LABELS}
            assert (statistics[split]["read"], statistics[split]["rows"]) == (len(rows), len(rows))
            assert statistics[split]["labels"] == labels
            tokens = [token for a, b, _ in encoded(rows) for token in f"{a} {b}".split()]
            unknown = tokens.count("[UNK]")
            assert statistics[split]["languages"][language] == {"tokens": len(tokens), "unknown": unknown}
            row = next(line for line in printed.splitlines() if line.startswith(f"| {split} {language} "))
            assert [cell.strip() for cell in row.split("|")[2:-1]] == [
                *map(str, (len(rows), *labels.values())),
                f"{len(tokens) / len(rows):.1f}",
                f"{unknown / len(tokens):.2%}",
            ]
    assert statistics["valid"]["languages"]["ar"]["unknown"] > 5
    order = [int(re.search(r"^en(\d+)", row[0].replace(" ##", ""))[1]) for row in texts(folder, "en", "test")]
    assert sorted(order) == list(range(15)) != order
    for language in ("en", "sw"):
        assert texts(folder, language, "test") == encoded([test[language][number] for number in order])
    assert {path.name for path in folder.iterdir()} == {
        *("ar", "en", "fr", "sw", "zh"),
        *("dict.txt", "labels.txt", "statistics.json", ".ppa-output.json", "tokenizer.json", *TOKENIZER),
    }
    assert {path.name for path in (folder / "ar").iterdir()} == {"valid.input0", "valid.input1", "valid.label"}
    assert (folder / "labels.txt").read_text() == "entailment 1\nneutral 1\ncontradiction 1\n"
    assert WordPieceDictionary.load(str(folder / "dict.txt")).symbols == VOCABULARY
    written = tokenizer.ModelTokenizer(tokenizer.read_files(folder), "")
    assert tokenizer.ModelTokenizer(TOKENIZER, "").difference(written) is None


def test_what_is_dropped_is_dropped_in_every_language(prepare, tmp_path):
    rows = {language: make_rows(language, 9) for language in ("en", "fr", "zh")}
    expected = {language: [row for k, row in enumerate(of) if k not in (0, 2, 5, 8)] for language, of in rows.items()}
    expected = {language: encoded(of) for language, of in expected.items()}
    rows["en"][0][2] = "-"
    rows["fr"][2][1] = " "
    rows["zh"][5][0] = "\u200b\x00"  # text, but no token
    rows["en"][8][2], rows["zh"][8][0] = "-", ""
    files = [write_tsv(tmp_path / f"{language}.tsv", of) for language, of in rows.items()]
    folder, statistics, printed = prepare("--train", *files)
    assert {language: texts(folder, language, "train") for language in rows} == expected
    assert statistics["train"]["dropped"] == {"no consensus": 2, "empty": 2}
    assert (statistics["train"]["read"], statistics["train"]["rows"]) == (9, 5)
    assert "train: 9 rows read, dropped in every language: 2 no consensus (" in printed


def test_a_benchmark_loses_only_rows_without_consensus(prepare, tmp_path):
    rows = make_rows("en", 5)
    rows[1][2] = "-"
    folder, _, _ = prepare("--test", write_tsv(tmp_path / "en.tsv", rows))
    assert texts(folder, "en", "test") == encoded(rows[:1] + rows[2:])
    rows[3][1] = "\u200b"
    message = prepare("--test", write_tsv(tmp_path / "en.tsv", rows), status=1, out="other")
    assert f"{tmp_path}/en.tsv:4: the premise or the hypothesis is empty or has no token" in message
    assert not (tmp_path / "other").exists()


def test_named_files_and_folders_follow_one_another(prepare, tmp_path):
    rows = make_rows("en", 30)
    (tmp_path / "nli-en").mkdir()
    parts = [write_tsv(tmp_path / "nli-en" / f"{k}.tsv", rows[k : k + 10]) for k in (0, 10, 20)]
    translation = write_tsv(tmp_path / "train.sw.tsv", make_rows("sw", 30))
    whole = write_tsv(tmp_path / "all-en.tsv", rows)
    folder, _, _ = prepare("--train", whole, translation)
    for number, sources in enumerate(([f"en={tmp_path}/nli-en/"], [f"en={part}" for part in parts])):
        other, _, _ = prepare("--train", *sources, "--train", translation, out=f"by{number}")
        assert tree(other) == tree(folder)


def test_some_languages_alone(prepare, tmp_path):
    valid = write_xnli(tmp_path / "xnli.dev.tsv", {language: make_rows(language, 6) for language in ("en", "fr", "zh")})
    train = [write_tsv(tmp_path / f"{language}.tsv", make_rows(language, 8)) for language in ("en", "sw")]
    folder, statistics, _ = prepare("--train", *train, "--valid", valid, "--langs", "en,zh")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"en", "zh"}
    assert {split: list(of["languages"]) for split, of in statistics.items()} == {
        "train": ["en"],
        "valid": ["en", "zh"],
    }
    folder, statistics, _ = prepare("--valid", f"fr={valid}", out="one")
    assert list(statistics["valid"]["languages"]) == ["fr"]
    assert texts(folder, "fr", "valid") == encoded(make_rows("fr", 6))


def test_threads_and_batches_change_nothing(prepare, tmp_path, monkeypatch):
    files = [write_tsv(tmp_path / f"{language}.tsv", make_rows(language, 100)) for language in ("de", "en", "fr")]
    one, statistics, _ = prepare("--train", *files)
    monkeypatch.setattr(encoder, "BATCH", 20)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    two, _, _ = prepare("--train", *files, "--workers", 2, out="two")
    assert tree(one) == tree(two)
    assert list(statistics["train"]["languages"]) == ["en", "de", "fr"]


def test_labels_and_quotes_are_read_as_the_flags_say(prepare, tmp_path):
    path = tmp_path / "train-en.tsv"
    path.write_text('"a ""b"""\tb\t1\nc\td\t0\n"e\tf"\tg\t2\n')
    folder, _, _ = prepare("--train", path, "--unquote", "--labels", "neutral,contradictory,entailment")
    rows = [['a "b"', "b", "contradiction"], ["c", "d", "neutral"], ["e f", "g", "entailment"]]
    assert texts(folder, "en", "train") == encoded(rows)
    more = [write_tsv(tmp_path / f"train-{name}.tsv", [['"a ""b"""', "b", "neutral"]]) for name in ("en", "fr")]
    printed = prepare("--train", *more)[2]
    assert "train: no row is labelled entailment or contradiction" in printed
    assert f"{path} and 1 more: quotes are read as text, but every cell" in printed and printed.count("--unquote") == 1
    with pytest.raises(SystemExit):
        prepare("--train", path, "--labels", "entailment,not_entailment")


def test_xlm_roberta(prepare, tmp_path):
    unigram = write_xlm_roberta(tmp_path / "xlmr", ["▁ab", *"▁abcd01"], Metaspace())
    path = write_tsv(tmp_path / "en.tsv", [["ab cd", "ab0 zz", "neutral"], ["d", "a b", "entailment"]])
    folder, statistics, _ = prepare("--train", path, tokenizer=tmp_path / "xlmr")
    found = texts(folder, "en", "train")
    assert found == [("▁ab ▁ c d", "▁ab 0 ▁ <unk>", "neutral"), ("▁ d", "▁ a ▁ b", "entailment")]
    assert statistics["train"]["languages"]["en"] == {"tokens": 14, "unknown": 1}
    dictionary = WordPieceDictionary.load(str(folder / "dict.txt"))
    for line, _, _ in found:
        assert dictionary.encode_line(line, append_eos=False).tolist() == [unigram.token_to_id(s) for s in line.split()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows["fr"][4].__setitem__(2, "neutral"), "{fr}:5: label neutral, but entailment in {en}:5; "),
        (lambda rows: rows["fr"].pop(), "{en}:10: fr has no row for this one (its last is {fr}:9); "),
        (lambda rows: rows["en"].pop(), "{fr}:10: en has no row for this one (its last is {en}:9); "),
    ],
    ids=["another label", "a row less", "a row more"],
)
def test_translations_that_do_not_line_up(prepare, tmp_path, change, message):
    rows = {language: [[*row[:2], LABELS[0]] for row in make_rows(language, 10)] for language in ("fr", "en")}
    change(rows)
    files = {language: write_tsv(tmp_path / f"dev-{language}.tsv", of) for language, of in rows.items()}
    assert message.format(**files) + PARALLEL in prepare("--valid", *files.values(), status=1)
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize(
    ("pair_ids", "message"),
    [
        (["1", "2", "4"], ":7: pairID 4, but 3 in {xnli}:4; "),
        (["1", "4", "4"], ":6: pairID 4, but 2 in {xnli}:3; "),
        (["1", "2", "3", "4"], ":8: en has no row for this one (its last is {xnli}:4); "),
    ],
)
def test_pair_ids_that_do_not_match(prepare, tmp_path, pair_ids, message):
    rows = [["en", str(k + 1)] for k in range(3)] + [["fr", pair_id] for pair_id in pair_ids]
    lines = [[language, "neutral", "", "a", "b", "", pair_id, "", "", ""] for language, pair_id in rows]
    path = write_tsv(tmp_path / "xnli.test.tsv", lines, XNLI_HEADER)
    assert str(path) + message.format(xnli=path) in prepare("--test", path, status=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to prepare; name files with --train, --valid or --test"),
        (["--train", "none.tsv"], "none.tsv: no such file; name files or folders"),
        (["--train", "sick.tsv"], "sick.tsv: neither its rows nor its name (as in dev-fr.tsv) say the language"),
        (["--train", "bad-en.tsv"], "bad-en.tsv:2: unknown label 'perhaps'"),
        (["--train", "empty-en.tsv"], "empty-en.tsv: no row in it"),
        (["--train", "dash-en.tsv"], "train: none of 1 rows is left (dropped in every language: 1 no consensus"),
        (["--train", "xnli.dev.tsv", "dev-en.tsv"], "xnli.dev.tsv and dev-en.tsv both have en; name one of them, or"),
        (["--train", "en=sick.tsv", "dev-en.tsv"], "sick.tsv and dev-en.tsv both have en; name one of them, or write"),
        (["--train", "both"], "both/xnli.dev.jsonl and both/xnli.dev.tsv both have en"),
        (["--train", "sw=xnli.dev.tsv"], "xnli.dev.tsv: no row of language sw in it"),
        (["--train", "dev-en.tsv", "--langs", "en,sw"], "--langs: none of the files has sw; name them with LANG=FILE"),
        (["--train", "dev-en.tsv", "--valid", "xnli.dev.tsv", "--langs", "fr"], "--train: none of its files has a"),
        (["--train", "dev-en.tsv", "--tokenizer", "both"], "both: has no tokenizer"),
        (["--train", "a-en.zip"], "a-en.zip: cannot read .zip"),
    ],
)
def test_bad_input_is_refused_in_one_line(prepare, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    rows = {language: make_rows(language, 3) for language in ("en", "fr")}
    write_xnli(tmp_path / "xnli.dev.tsv", rows)
    for name in ("sick.tsv", "dev-en.tsv"):
        write_tsv(tmp_path / name, rows["en"])
    write_tsv(tmp_path / "bad-en.tsv", [["a", "b", "neutral"], ["a", "b", "perhaps"]])
    write_tsv(tmp_path / "dash-en.tsv", [["a", "b", "-"]])
    for name in ("empty-en.tsv", "a-en.zip"):
        (tmp_path / name).touch()
    (tmp_path / "both").mkdir()
    shutil.copy(tmp_path / "xnli.dev.tsv", tmp_path / "both")
    record = {"sentence1": "a", "sentence2": "b", "gold_label": "neutral", "language": "en"}
    (tmp_path / "both" / "xnli.dev.jsonl").write_text(json.dumps(record) + "\n")
    assert message in prepare(*arguments, status=1)
    assert not (tmp_path / "text").exists()
    assert not list(tmp_path.glob(".text*"))


def test_an_earlier_run_is_replaced_but_nothing_else(prepare, tmp_path):
    one, two = (write_tsv(tmp_path / f"{language}.tsv", make_rows(language, 3)) for language in ("en", "fr"))
    prepare("--train", one)
    folder, _, _ = prepare("--train", two)
    assert not (folder / "en").exists()
    (folder / "fr" / "thesis.tex").touch()
    assert "text: holds fr/thesis.tex, which `ppa prepare-xnli` did not write" in prepare("--train", two, status=1)


@pytest.fixture
def script(tmp_path):
    return partial(run_script, "prepare_xnli.sh", tmp_path)


@pytest.mark.parametrize(
    ("folders", "arguments"),
    [
        (["XNLI-1.0"], "--valid XNLI-1.0/xnli.dev.tsv --test XNLI-1.0/xnli.test.tsv"),
        (
            ["XNLI-1.0/", "XNLI-MT-1.0/"],
            "--valid XNLI-1.0/xnli.dev.tsv --test XNLI-1.0/xnli.test.tsv --train "
            "XNLI-MT-1.0/multinli/multinli.train.ar.tsv XNLI-MT-1.0/multinli/multinli.train.en.tsv",
        ),
        (
            ["packed", "multinli_1.0"],
            "--valid packed/dev-en.jsonl --test packed/test-en.tsv.gz packed/test-fr.tsv.xz "
            "--train en=multinli_1.0/multinli_1.0_train.txt",
        ),
        (["packed", "nli en"], "--valid packed/dev-en.jsonl --test packed/test-en.tsv.gz packed/test-fr.tsv.xz "
         "--train en=nli en"),
    ],
    ids=["evaluate only", "translate-train", "packed", "a folder of parts"],
)  # fmt: skip
def test_script_finds_files_by_their_names(script, tmp_path, folders, arguments):
    for folder, names in {
        "XNLI-1.0": ["xnli.dev.tsv", "xnli.dev.jsonl", "xnli.test.jsonl", "xnli.test.tsv", "README.md"],
        "XNLI-MT-1.0/multinli": ["multinli.train.ar.tsv", "multinli.train.en.tsv"],
        "XNLI-MT-1.0/xnli": ["xnli.test.ar.tsv"],
        "multinli_1.0": ["multinli_1.0_train.txt", "multinli_1.0_train.jsonl", "multinli_1.0_dev_matched.txt"],
        "packed": ["test-fr.tsv.xz", "test-en.tsv.gz", "dev-en.jsonl", "latest.tsv", "device.tsv"],
        "nli en": ["sick.tsv", "taxinli10k.tsv"],
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).touch()
    done = script("imported", *folders, "data-bin/x/", "--langs", "en,ar")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"ppa prepare-xnli --tokenizer imported --out data-bin/x.text {arguments} --langs en,ar",
        "ppa binarize data-bin/x.text --destdir data-bin/x",
    ]


def test_script_names_what_is_missing(script, tmp_path):
    for folder in ("raw", "dev"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dev/dev-en.tsv").touch()
    assert "raw: no file named like xnli.dev.tsv or dev-fr.tsv" in script("imported", "raw", "out").stderr
    assert "none: no such folder" in script("imported", "none", "out").stderr
    assert "none: no such folder" in script("imported", "dev", "none", "out").stderr
    usage = script("imported", "dev")
    assert usage.returncode == 2 and "IMPORTED XNLI [TRAIN] DATA_BIN" in usage.stderr
    failed = script("imported", "dev", "out", ppa='[ "$1" = binarize ] && echo binarized || exit 1')
    assert (failed.returncode, failed.stdout) == (1, "")


def test_published_data_becomes_rows_of_the_tokenizer(script, shared_data, tmp_path):
    mbert, dev = {"vocab.txt": shared_data("mbert-vocab").read_text()}, shared_data("xnli-dev")
    (tmp_path / "mbert").mkdir()
    tokenizer.write_files(TOKENIZER | mbert, tmp_path / "mbert")
    train = tmp_path / "nli-en"
    train.mkdir()
    for file in shared_data("nli-en").glob("*.tsv"):
        (train / file.name).write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:1500]))
    done = script("mbert", dev, train, "data-bin", "--langs", "en,th,zh", ppa=REAL_PPA)
    assert done.returncode == 0, done.stderr
    oracle = tokenizers.BertWordPieceTokenizer(str(tmp_path / "mbert" / "vocab.txt"), lowercase=False)
    data = tmp_path / "data-bin"
    of_train = [one for file in sorted(train.glob("*.tsv")) for one in read_nli(file, "en")["en"]]
    valid = find_nli([dev])
    for language, split, examples in [
        ("en", "train", of_train),
        *((name, "valid", valid[name]) for name in ("en", "th", "zh")),
    ]:
        for part, field in (("input0", "premise"), ("input1", "hypothesis")):
            rows = MMapIndexedDataset(str(data / language / part / split))
            texts = [getattr(one, field) for one in examples]
            expected = [one.ids for one in oracle.encode_batch(texts, add_special_tokens=False)]
            assert [row.tolist() for row in rows] == [[*ids, oracle.token_to_id("[SEP]")] for ids in expected]
        labels = Dictionary.load(str(data / language / "label" / "dict.txt"))
        rows = MMapIndexedDataset(str(data / language / "label" / split))
        assert [LABELS[row[0] - labels.nspecial] for row in rows] == [one.label for one in examples]
        assert {tuple(row[1:].tolist()) for row in rows} == {(labels.eos(),)}
