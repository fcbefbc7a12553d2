"""NLI reads the same from every format in which it is published; an error names file and line."""

import csv
import gzip
import json
import lzma
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppa_fairseq.data.nli.files import find_nli, nli_files
from ppa_fairseq.data.nli.reader import DEFAULT_HEADER, LABELS, NO_CONSENSUS, NLIExample, NLIFile, language_of
from ppa_fairseq.utils.errors import InputError

# What must not end a line or a field: quotes, a lone \r, Unicode's own line separators.
ROWS = [
    ('"Well, he said', 'He said "no".', "contradiction"),
    ("I'm \r home", "Someone \u2028 is \x85 home", "entailment"),
    ("และเขาพูดว่า, ม่าม๊า ผมอยู่บ้าน", "他说:“妈妈,我回来了。”", "neutral"),
    ("{", '\\t \\" {"a": 1}', "neutral"),
    ("premise", "hypothesis", "entailment"),
]
XNLI_HEADER = (
    "language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse sentence1 "
    "sentence2 promptID pairID genre label1 label2 label3 label4 label5 sentence1_tokenized sentence2_tokenized match"
).split()
MULTINLI_HEADER = [name for name in XNLI_HEADER if name not in ("language", "match") and "token" not in name]


def tsv(rows, header=None):
    lines = [header] if header else []
    lines += [[row.get(name, "") for name in header] if header else row for row in rows]
    return "".join("\t".join(line) + "\n" for line in lines)


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=number % 2 == 0) + "\n" for number, row in enumerate(rows))


def records(rows, **more):
    return [
        {"sentence1": a, "sentence2": b, "gold_label": label, "pairID": f"{number}n", "label1": "neutral", **more}
        for number, (a, b, label) in enumerate(rows, start=1)
    ]


FORMATS = {
    "xnli.dev.tsv": lambda rows: tsv(records(rows, language="fr", match="True"), XNLI_HEADER),
    "xnli.dev.jsonl": lambda rows: json_lines(records(rows, language="fr", match="True")),
    "multinli_1.0_train.txt": lambda rows: tsv(records(rows), MULTINLI_HEADER),
    "multinli_1.0_train.jsonl": lambda rows: json_lines(records(rows, annotator_labels=["neutral"])),
    "multinli.train.fr.tsv": lambda rows: tsv(
        [{"premise": a, "hypo": b, "label": f"{c} \r".replace("contradiction", "contradictory")} for a, b, c in rows],
        ["premise", "hypo", "label"],
    ),
    "hugging-face.json": lambda rows: json_lines(
        [{"premise": a, "hypothesis": b, "label": LABELS.index(c)} for a, b, c in rows]
    ),
    "train-fr.tsv": lambda rows: tsv(rows),
}


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name, packing):
    content = FORMATS[name](ROWS).encode()
    path = tmp_path / f"{name}{packing}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[packing](content))
    examples = find_nli([f"fr={path}"], LABELS)
    assert list(examples) == ["fr"]
    assert [(example.premise, example.hypothesis, example.label) for example in examples["fr"]] == ROWS
    has_header = name.endswith((".tsv", ".txt")) and name != "train-fr.tsv"
    assert [example.place for example in examples["fr"]] == [f"{path}:{k + has_header}" for k in range(1, 6)]
    has_id = name.startswith(("xnli", "multinli_"))
    assert [example.pair_id for example in examples["fr"]] == [f"{k}n" if has_id else None for k in range(1, 6)]


SENTENCE = st.text(st.characters(blacklist_characters="\t\n", blacklist_categories=["Cs"]))


@given(st.lists(st.tuples(SENTENCE, SENTENCE, st.sampled_from(LABELS)), min_size=1))
@settings(deadline=None)
def test_any_text_comes_through(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    for name in FORMATS.keys() - {"train-fr.tsv"}:  # where the first row could be a header
        rows_of_name = [*rows, *(("a", "b", label) for label in LABELS)]  # label numbers need all classes
        (folder / name).write_bytes(FORMATS[name](rows_of_name).encode())
        examples = NLIFile(folder / name, "fr", LABELS)
        found = [(language, one.premise, one.hypothesis, one.label) for language, one in examples]
        assert found == [("fr", a.strip(), b.strip(), label) for a, b, label in rows_of_name]


def test_a_file_that_names_its_languages_gives_them_all(tmp_path):
    rows = [row | {"language": language} for row in records(ROWS) for language in ("ar", "zh", "en")]
    for name, content in (("xnli.dev.tsv", tsv(rows, XNLI_HEADER)), ("xnli.dev.jsonl", json_lines(rows))):
        path = tmp_path / name
        path.write_bytes(content.encode())
        examples = find_nli([path])
        assert list(examples) == ["ar", "zh", "en"]
        for number, language in enumerate(examples):
            first = number + 1 + name.endswith("tsv")
            assert [one.place for one in examples[language]] == [f"{path}:{first + 3 * k}" for k in range(5)]
            assert [(one.premise, one.hypothesis, one.label) for one in examples[language]] == ROWS
        assert find_nli([f"zh={path}"]) == {"zh": examples["zh"]}
        with pytest.raises(InputError, match="no row of language sw in it"):
            find_nli([f"sw={path}"])


def hugging_face(*labels):
    return json_lines([{"premise": "a", "hypothesis": "b", "label": label} for label in labels])


@pytest.mark.parametrize("name", ["multinli_1.0_train.txt", "multinli_1.0_train.jsonl", "hf.jsonl"])
def test_rows_without_consensus_are_left_out_and_counted(tmp_path, caplog, name):
    rows = [*ROWS, ("a", "b", "-"), ("", "", "-"), ("c", "d", "neutral")]
    numbers = {"-": -1} | {label: label for label in LABELS}
    path = tmp_path / name
    path.write_text(
        hugging_face(*(numbers[row[2]] for row in rows)) if name == "hf.jsonl" else FORMATS[name](rows), newline="\n"
    )
    assert [one.label for one in find_nli([f"en={path}"])["en"]] == [label for *_, label in ROWS] + ["neutral"]
    assert "en: 2 rows without a label" in caplog.text
    assert [one.label for _, one in NLIFile(path, "en")][5:] == [NO_CONSENSUS, NO_CONSENSUS, "neutral"]


@pytest.mark.parametrize("name", ["en.jsonl", "en.tsv"])
def test_label_numbers_need_an_order(tmp_path, name):
    path = tmp_path / name
    order = ("contradiction", "entailment", "neutral")
    numbers = [2, 0, 1, "0"]
    path.write_text(hugging_face(*numbers) if "json" in name else tsv([["a", "b", str(n)] for n in numbers]))
    assert [one.label for one in find_nli([path], label_order=order)["en"]] == [order[int(n)] for n in numbers]
    message = f"{path}:1: the label 2 is a number, and publishers number differently; .*--labels entailment,neutral,"
    with pytest.raises(InputError, match=f"{message}.*evaluate-xnli.: --data-labels"):
        find_nli([path])


def test_numbers_of_two_classes_are_refused(tmp_path):
    path = tmp_path / "pawsx-en.jsonl"
    path.write_text(hugging_face(1, 0, 1, -1))
    message = f"{path}: its only label numbers are 0, 1, but NLI has 3 classes; give NLI of all three"
    with pytest.raises(InputError, match=message):
        find_nli([path], LABELS)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["some", "all"])
def test_unquote_reads_what_a_csv_writer_writes(tmp_path, caplog, quoting):
    path = tmp_path / "dev-fr.tsv"
    rows = [*ROWS[2:], ('He said "no".', 'c "d"', "neutral"), ('"', "b", "entailment")]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n", quoting=quoting).writerows([DEFAULT_HEADER, *rows])
    found = find_nli([path], unquote=True)["fr"]
    assert [(one.premise, one.hypothesis, one.label) for one in found] == rows
    assert not caplog.messages
    if quoting == csv.QUOTE_MINIMAL:
        shutil.copy(path, tmp_path / "dev-sw.tsv")
        assert find_nli([tmp_path])["fr"][3].premise == '"He said ""no""."'
        ((hint,)) = caplog.messages
        assert hint.startswith(f"{path} and 1 more: the quotes are those of a CSV writer")
    else:
        with pytest.raises(InputError, match=":1: unknown label '\"label\"'; .*; read the file with --unquote"):
            find_nli([path])


@pytest.mark.parametrize(
    "raw", ['He said "no".', '"Yes," he said, "no."', '"All of it."', '"a ""b"""\tc\tneutral\nHe said "no".']
)
def test_quotes_of_the_text_cause_no_hint(tmp_path, caplog, raw):
    path = tmp_path / "dev-fr.tsv"
    path.write_text(f"{raw}\tb\tneutral\n")
    assert find_nli([path])["fr"][-1].premise == raw.split("\n")[-1]
    assert not caplog.messages


def test_empty_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "dev-fr.tsv"
    path.write_bytes("\ufeffa\tb\tneutral\r\n\r\n\nc\td\tneutral\n\n".encode())
    assert find_nli([path])["fr"] == [
        NLIExample("a", "b", "neutral", f"{path}:1"),
        NLIExample("c", "d", "neutral", f"{path}:4"),
    ]


def test_the_language_is_at_the_end_of_a_name():
    names = "dev-fr.tsv multinli.train.zh.tsv xnli.test.sw.jsonl.gz some_en.txt.xz ur.json dev.zh-CN.tsv".split()
    assert [language_of(Path("in-de.tsv") / name) for name in names] == ["fr", "zh", "sw", "en", "ur", "zh_CN"]
    for name in ("xnli.dev.tsv", "multinli_1.0_train.txt", "sick.tsv", "train.fr.shuffled.tsv"):
        with pytest.raises(InputError, match=f"{name}: neither its rows nor its name.*write fr={name}"):
            language_of(Path("in-de.tsv") / name)


def test_files_folders_and_named_languages_are_found_together(tmp_path):
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("dev-de.tsv", "dev-fr.tsv.gz", "sw.jsonl"):
        content = FORMATS["hugging-face.json" if "json" in name else "train-fr.tsv"](ROWS).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for name in (".hidden-en.tsv", "README.txt", "old-en.tsv.zip"):
        (folder / name).write_text("no NLI")
    other = tmp_path / "a=b.tsv"
    other.write_text(tsv(ROWS[:2]), newline="\n")
    found = find_nli([folder, f"zh={other}"], LABELS)
    assert {language: len(examples) for language, examples in found.items()} == {"de": 5, "fr": 5, "sw": 5, "zh": 2}
    with pytest.raises(InputError, match=re.escape(f"{folder}/dev-de.tsv and {other} both have de")):
        find_nli([folder, f"de={other}"], LABELS)
    assert [(file.language, file.path) for file in nli_files([str(other)])] == [(None, other)]
    with pytest.raises(InputError, match="^x/dev.tsv: no such file"):
        nli_files(["fr=x/dev.tsv"])
    other.unlink()
    with pytest.raises(InputError, match=f"{tmp_path}: no .tsv, .jsonl or .json in this folder"):
        find_nli([tmp_path])


GOOD = "a\tb\tneutral\n"
HEADER = "premise\thypo\tlabel\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev-fr.tsv", GOOD + "a\tb\tmaybe\n", ":2: unknown label 'maybe'; expected entailment, neutral"),
        ("rte-en.tsv", "a\tb\tnot_entailment\n" + GOOD, ":1: unknown label 'not_entailment'; expected entailment, "),
        ("dev-fr.tsv", GOOD + "a b\tneutral\n", ":2: 2 tab-separated columns, but 3 in the first line; correct"),
        ("dev-fr.tsv", GOOD + "a\t  \tneutral\n", ":2: empty hypothesis"),
        ("dev-fr.tsv", GOOD.encode() + b"a\xff\tb\tneutral\n", ":2: not UTF-8 (invalid start byte)"),
        ("dev-fr.tsv", (GOOD * 2).replace("\n", "\r"), ": its lines end in CR alone"),
        ("dev-fr.tsv", GOOD + "a" * 40_000, ":2: a line of over 32768 bytes"),
        ("dev-fr.tsv", HEADER, ": no row in it"),
        ("dev-fr.tsv", "a\tb\t-\n", ":1: no row of fr has a label"),
        ("dev-fr.tsv", "a,b,neutral\n", ":1: 1 tab-separated columns, not named premise"),
        ("dev.tsv", GOOD, ": neither its rows nor its name"),
        ("dev.tsv", "language\t" + HEADER + "fr\t" + GOOD + "../x\t" + GOOD, ":3: '../x' in the column language"),
        ("fr.jsonl", '{"premise": "a", "hypothesis": "b", "label": "neutral"}\n{"premise"\n', ":2: not a JSON object"),
        ("fr.jsonl", '[{"premise": "a"}]\n', ":1: a JSON array; write its objects one a line: jq -c"),
        ("fr.jsonl", '{"hypothesis": "b", "label": "neutral"}\n', ":1: no text for the premise or the hypothesis"),
        ("fr.jsonl", hugging_face(True), ":1: unknown label 'true'"),
        ("dev-fr.tsv.gz", GOOD, ": truncated or damaged"),
        ("dev-fr.zip", GOOD, ": cannot read .zip"),
        ("none-fr.tsv", None, ": no such file"),
    ],
)
def test_bad_input_names_file_and_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        find_nli([path])
    assert str(caught.value).startswith(f"{path}{message}")


def test_data_of_two_named_classes_is_warned_of(tmp_path, caplog):
    path = tmp_path / "dev-fr.tsv"
    path.write_text(tsv([["a", "b", label] for label in ("entailment", "neutral")] * 10))  # as SciTail
    assert len(find_nli([path])["fr"]) == 20
    assert "fr: no row is contradiction; is this data for two classes?" in caplog.text
