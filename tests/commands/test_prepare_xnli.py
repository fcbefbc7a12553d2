"""`ppa prepare-xnli` writes the tokenizer's tokens, rows of all languages side by side, or says which do not fit."""

import json
import random
import string
from functools import partial
from zlib import crc32

import pytest
import tokenizers
from fairseq.data.indexed_dataset import MMapIndexedDataset
from helpers.nli_data import write_xlm_roberta
from helpers.prepare_scripts import REAL_PPA, run_script
from tokenizers.pre_tokenizers import Metaspace

from ppa_fairseq.checkpoints import tokenizer
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.classification import prepare as nli_prepare
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.nli.files import find_nli
from ppa_fairseq.data.nli.reader import LABELS

LETTERS = string.ascii_letters + string.digits + ".,"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY) + "\n", "tokenizer_config.json": '{"do_lower_case": false}'}
XNLI_HEADER = "language gold_label sentence1_parse sentence1 sentence2 promptID pairID genre label1 match".split()


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
    sides = [f"{language}{row} {''.join(draw.choices('abcd  ', k=draw.randint(1, 30)))}." for row in range(2 * count)]
    return [[*sides[2 * row : 2 * row + 2], LABELS[row % 3]] for row in range(count)]


def write_tsv(path, rows, header=None):
    path.write_text("".join("\t".join(line) + "\n" for line in ([header] if header else []) + rows), newline="\n")
    return path


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


ORACLE = tokenizers.BertWordPieceTokenizer({token: i for i, token in enumerate(VOCABULARY)}, lowercase=False)


def encoded(rows, oracle=ORACLE):
    """The same by the tokenizers library."""
    encode = partial(oracle.encode, add_special_tokens=False)
    return [(*(" ".join(encode(side).tokens) for side in sides), label) for *sides, label in rows]


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_official_files_become_the_tokenizers_own_tokens(prepare, tmp_path):
    train = {language: make_rows(language, 40) for language in ("en", "fr", "zh")}
    valid = {language: make_rows(language, 12, seed=1) for language in ("ar", "en", "fr", "zh")}
    test = {language: make_rows(language, 15, seed=2) for language in ("en", "sw")}
    valid["ar"][3][0] = 'No “letter” of "ours": 你好'
    files, header = [], ["premise", "hypo", "label"]
    for language, rows in train.items():
        written = [[a, b, label.replace("contradiction", "contradictory")] for a, b, label in rows]
        files.append(write_tsv(tmp_path / f"multinli.train.{language}.tsv", written, header))
    dev = write_xnli(tmp_path / "xnli.dev.tsv", valid)
    of_test = write_xnli(tmp_path / "xnli.test.tsv", test, order=lambda row: crc32(row[3].encode()))
    folder, statistics, printed = prepare("--train", *files, "--valid", dev, "--test", of_test)
    for split, by_language in (("train", train), ("valid", valid)):
        for language, rows in by_language.items():
            assert texts(folder, language, split) == encoded(rows)
            tokens = [token for a, b, _ in encoded(rows) for token in f"{a} {b}".split()]
            counts = {"tokens": len(tokens), "unknown": tokens.count("[UNK]")}
            assert statistics[split]["languages"][language] == counts
            row = next(line for line in printed.splitlines() if line.startswith(f"| {split} {language} "))
            shares = f"{len(tokens) / len(rows):.1f}", f"{counts['unknown'] / len(tokens):.2%}"
            labels = [sum(row[2] == label for row in rows) for label in LABELS]
            assert [cell.strip() for cell in row.split("|")[2:-1]] == [*map(str, (len(rows), 0, 0, *labels)), *shares]
    assert statistics["valid"]["languages"]["ar"]["unknown"] > 5
    order = [encoded(test["en"]).index(row) for row in texts(folder, "en", "test")]
    assert sorted(order) == list(range(15)) != order
    assert texts(folder, "sw", "test") == encoded([test["sw"][number] for number in order])
    assert (folder / "labels.txt").read_text() == "entailment 1\nneutral 1\ncontradiction 1\n"
    assert WordPieceDictionary.load(str(folder / "dict.txt")).symbols == VOCABULARY
    written = tokenizer.ModelTokenizer(tokenizer.read_files(folder), "")
    assert tokenizer.ModelTokenizer(TOKENIZER, "").difference(written) is None


def test_what_is_dropped_is_dropped_in_every_language(prepare, tmp_path):
    rows = {language: make_rows(language, 9) for language in ("en", "fr", "zh")}
    expected = {language: [of[k] for k in (1, 3, 4, 6, 7)] for language, of in rows.items()}
    rows["en"][0][2] = "-"
    rows["fr"][2][1] = " "
    rows["zh"][5][0] = "\u200b\x00"  # text, but no token
    rows["en"][8][2], rows["zh"][8][0] = "-", ""
    files = [write_tsv(tmp_path / f"{language}.tsv", of) for language, of in rows.items()]
    folder, statistics, _ = prepare("--train", *files)
    for language, of in expected.items():
        assert texts(folder, language, "train") == encoded(of)
    assert statistics["train"]["dropped"] == {"no consensus": 2, "empty": 2}
    assert (statistics["train"]["read"], statistics["train"]["rows"]) == (9, 5)
    message = prepare("--test", tmp_path / "fr.tsv", status=1, out="test")  # no row of a benchmark may vanish
    assert f"{tmp_path}/fr.tsv:3: the premise or the hypothesis is empty or has no token" in message
    assert not (tmp_path / "test").exists()


def test_named_files_and_folders_follow_one_another(prepare, tmp_path, monkeypatch):
    """In batches of any size and with any number of threads."""
    rows = make_rows("en", 30)
    (tmp_path / "nli-en").mkdir()
    parts = [write_tsv(tmp_path / "nli-en" / f"{k}.tsv", rows[k : k + 10]) for k in (0, 10, 20)]
    translation = write_tsv(tmp_path / "train.sw.tsv", make_rows("sw", 30))
    folder, _, _ = prepare("--train", write_tsv(tmp_path / "all-en.tsv", rows), translation)
    monkeypatch.setattr(nli_prepare, "BATCH", 20)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    for number, sources in enumerate(([f"en={tmp_path}/nli-en/"], [f"en={part}" for part in parts])):
        other, _, _ = prepare("--train", *sources, "--train", translation, "--workers", 2, out=f"by{number}")
        assert tree(other) == tree(folder)


def test_langs_chooses_languages_and_an_earlier_run_is_replaced(prepare, tmp_path):
    valid = write_xnli(tmp_path / "xnli.dev.tsv", {language: make_rows(language, 6) for language in ("en", "fr", "zh")})
    train = [write_tsv(tmp_path / f"{language}.tsv", make_rows(language, 8)) for language in ("en", "sw")]
    _, statistics, _ = prepare("--train", *train, "--valid", valid, "--langs", "en,zh")
    languages = {split: list(of["languages"]) for split, of in statistics.items()}
    assert languages == {"train": ["en"], "valid": ["en", "zh"]}
    folder, _, _ = prepare("--valid", f"fr={valid}")
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["fr"]
    assert texts(folder, "fr", "valid") == encoded(make_rows("fr", 6))


def test_labels_and_quotes_are_read_as_the_flags_say(prepare, tmp_path, caplog):
    path = tmp_path / "train-en.tsv"
    path.write_text('"a ""b"""\tb\t1\nc\td\t0\n"e f"\tg\t2\n')
    folder, _, printed = prepare("--train", path, "--unquote", "--labels", "neutral,contradictory,entailment")
    rows = [['a "b"', "b", "contradiction"], ["c", "d", "neutral"], ["e f", "g", "entailment"]]
    assert texts(folder, "en", "train") == encoded(rows) and "WARNING" not in printed + caplog.text
    printed = prepare("--train", write_tsv(path, [['"a ""b"""', "b", "neutral"]]))[2]
    assert printed.endswith("WARNING: train: no row is labelled entailment or contradiction\n")
    assert len(caplog.messages) == 1 and "--unquote" in caplog.text
    with pytest.raises(SystemExit):
        prepare("--train", path, "--labels", "entailment,not_entailment")


def test_xlm_roberta(prepare, tmp_path):
    unigram = write_xlm_roberta(tmp_path / "xlmr", ["▁ab", *"▁abcd01"], Metaspace())
    path = write_tsv(tmp_path / "en.tsv", [["ab cd", "ab0 zz", "neutral"], ["d", "a b", "entailment"]])
    folder, statistics, _ = prepare("--train", path, tokenizer=tmp_path / "xlmr")
    (line, *others), second = texts(folder, "en", "train")
    assert (line, *others) == ("▁ab ▁ c d", "▁ab 0 ▁ <unk>", "neutral") and second == ("▁ d", "▁ a ▁ b", "entailment")
    assert statistics["train"]["languages"]["en"] == {"tokens": 14, "unknown": 1}
    ids = WordPieceDictionary.load(str(folder / "dict.txt")).encode_line(line, append_eos=False).tolist()
    assert ids == unigram.encode("ab cd", add_special_tokens=False).ids


BOTH = "--valid en.tsv fr.tsv"
PARALLEL = "; give files whose rows are translations of each other"


@pytest.mark.parametrize(
    ("english", "french", "arguments", "message"),
    [
        ("1n 2n 3n", "1n 2n 3c", BOTH, f"fr.tsv:4: label contradiction, but neutral in en.tsv:4{PARALLEL}"),
        ("1n 2n 3n", "1n 2n", BOTH, f"en.tsv:4: fr has no row for this one{PARALLEL}"),
        ("1n 2n", "1n 2n 3n", BOTH, f"fr.tsv:4: en has no row for this one{PARALLEL}"),
        ("1n 2n 3n", "1n 2n 4n", BOTH, f"fr.tsv:4: pairID 4, but 3 in en.tsv:4{PARALLEL}"),
        ("1n 2n 3n", "1n 3n 3n", BOTH, f"fr.tsv:3: pairID 3, but 2 in en.tsv:3{PARALLEL}"),
        ("1n", "1-", "--train fr.tsv", "--train: none of 1 rows is left (1 no consensus, 0 empty); give other files"),
        ("1n", "1?", "--train en.tsv --valid fr.tsv", "fr.tsv:2: unknown label 'perhaps'"),
        ("1n", "1n", "--train en.tsv --langs en,sw", "--langs: none of the files has sw; name them with LANG=FILE"),
        ("1n", "1n", "--train en.tsv --valid fr.tsv --langs fr", "--train: none of 0 rows is left"),
        ("1n", "1n", "", "nothing to prepare; name files with --train, --valid or --test"),
    ],
)
def test_bad_input_is_refused_in_one_line(prepare, tmp_path, monkeypatch, english, french, arguments, message):
    """A row is its pairID and the first letter of its label."""
    monkeypatch.chdir(tmp_path)
    labels = {"n": "neutral", "c": "contradiction", "-": "-", "?": "perhaps"}
    for name, text in (("en.tsv", english), ("fr.tsv", french)):
        rows = [[row[0], "a", "b", labels[row[1]]] for row in text.split()]
        write_tsv(tmp_path / name, rows, ["pairID", "premise", "hypothesis", "label"])
    assert message in prepare(*arguments.split(), status=1)
    assert not list(tmp_path.glob("*text*"))


@pytest.fixture
def script(tmp_path):
    return partial(run_script, "prepare_xnli.sh", tmp_path)


OFFICIAL = "--valid XNLI-1.0/xnli.dev.tsv --test XNLI-1.0/xnli.test.tsv"
TRANSLATED = "XNLI-MT-1.0/multinli/multinli.train.ar.tsv XNLI-MT-1.0/multinli/multinli.train.zh-CN.tsv"
PACKED = "--valid packed/dev-en.jsonl --test packed/test-en.tsv.gz packed/test-fr.tsv.xz"


@pytest.mark.parametrize(
    ("folders", "arguments"),
    [
        (["XNLI-1.0"], OFFICIAL),
        (["XNLI-1.0/", "XNLI-MT-1.0/"], f"{OFFICIAL} --train {TRANSLATED}"),
        (["packed", "multinli_1.0"], f"{PACKED} --train en=multinli_1.0/multinli_1.0_train.txt"),
        (["packed", "nli en"], f"{PACKED} --train en=nli en"),
    ],
    ids=["evaluate only", "translate-train", "packed", "a folder of parts"],
)
def test_script_finds_files_by_their_names(script, tmp_path, folders, arguments):
    for folder, names in {
        "XNLI-1.0": "xnli.dev.tsv xnli.dev.jsonl xnli.test.jsonl xnli.test.tsv README.md",
        "XNLI-MT-1.0/multinli": "multinli.train.ar.tsv multinli.train.zh-CN.tsv",
        "XNLI-MT-1.0/xnli": "xnli.test.ar.tsv",
        "multinli_1.0": "multinli_1.0_train.txt multinli_1.0_train.jsonl multinli_1.0_dev_matched.txt",
        "packed": "test-fr.tsv.xz test-en.tsv.gz dev-en.jsonl latest.tsv device.tsv",
        "nli en": "sick.tsv taxinli10k.tsv",
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names.split():
            (tmp_path / folder / name).touch()
    done = script("imported", *folders, "data-bin/x/", "--langs", "en,ar")
    assert done.stdout.splitlines() == [
        f"ppa prepare-xnli --tokenizer imported --out data-bin/x.text {arguments} --langs en,ar",
        "ppa binarize data-bin/x.text --destdir data-bin/x",
    ], done.stderr


def test_script_names_what_is_missing(script, tmp_path):
    for folder in ("raw", "dev"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dev/dev-en.tsv").touch()
    assert script("imported", "dev").returncode == 2
    assert "raw: no file named like xnli.dev.tsv or dev-fr.tsv" in script("imported", "raw", "out").stderr
    assert "none: no such folder" in script("imported", "dev", "none", "out").stderr
    failed = script("imported", "dev", "out", ppa='[ "$1" = binarize ] && echo binarized || exit 1')
    assert (failed.returncode, failed.stdout) == (1, "")


def test_published_data_becomes_the_tokenizers_own_tokens(script, shared_data, tmp_path):
    (tmp_path / "mbert").mkdir()
    tokenizer.write_files(TOKENIZER | {"vocab.txt": shared_data("mbert-vocab").read_text()}, tmp_path / "mbert")
    (tmp_path / "dev").mkdir()
    for language in ("en", "th", "zh"):
        rows = (shared_data("xnli-dev") / f"dev-{language}.tsv").read_text("utf-8").splitlines(keepends=True)
        (tmp_path / "dev" / f"dev-{language}.tsv").write_text("".join(rows[:300]), "utf-8")
    done = script("mbert", "dev", "data-bin", ppa=REAL_PPA)
    assert done.returncode == 0, done.stderr
    oracle = tokenizers.BertWordPieceTokenizer(str(tmp_path / "mbert" / "vocab.txt"), lowercase=False)
    for language, rows in find_nli([tmp_path / "dev"]).items():
        expected = encoded([(one.premise, one.hypothesis, one.label) for one in rows], oracle)
        assert texts(tmp_path / "data-bin.text", language, "valid") == expected
        assert len(MMapIndexedDataset(str(tmp_path / "data-bin" / language / "input0" / "valid"))) == len(expected)
