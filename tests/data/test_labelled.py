"""Labelled text as it is published: SIB-200, XNLI, JSON lines, Universal Dependencies."""

import gzip

import pytest

from ppa_fairseq.data.labelled import Example, files_by_language, read_by_language, read_files
from ppa_fairseq.utils.errors import InputError


def written(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", 'category\ttext\nhealth\tSay "no", he said.\nsports\tGo\n'),
        ("a.tsv.gz", 'index_id\tcategory\ttext\n1\thealth\tSay "no", he said.\n2\tsports\tGo\n'),
        ("a.jsonl", '{"text": "Say \\"no\\", he said.", "label": "health"}\n{"text": "Go", "label": "sports"}\n'),
    ],
    ids=["SIB-200", "more columns, packed", "JSON lines"],
)
def test_sentences(tmp_path, name, text):
    found = read_files([written(tmp_path / name, text)], "sentences")
    assert found == [Example(['Say "no", he said.'], ["health"]), Example(["Go"], ["sports"])]


@pytest.mark.parametrize(
    "text",
    [
        "a b\tc\tneutral\r\n",
        "gold_label\tsentence1\tsentence2\nneutral\ta b\tc\n",
        '{"premise": "a b", "hypothesis": "c", "label": "neutral"}\n',
        "a\tb\t-\na b\tc\tneutral\n",
    ],
    ids=["no header", "header", "JSON lines", "a row without consensus"],
)
def test_pairs(tmp_path, text):
    assert read_files([written(tmp_path / "a.txt", text)], "pairs") == [Example(["a b", "c"], ["neutral"])]


def test_pairs_of_multinli_have_xnlis_label(tmp_path):
    path = written(tmp_path / "multinli.train.en.tsv", "premise\thypo\tlabel\na\tb\tcontradictory\n")
    assert read_files([path], "pairs") == [Example(["a", "b"], ["contradiction"])]


@pytest.mark.parametrize(
    "text",
    [
        "The\tDET\ndog\tNOUN\n\nRun\tVERB\n",
        "The DET\ndog NOUN\n\n\nRun VERB",
        "# text = The dog\n1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_\n1-2\tx\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "2\tdog\tdog\tNOUN\tNN\t_\t0\troot\t_\t_\n\n1\tRun\trun\tVERB\tVB\t_\t0\troot\t_\t_\n\n",
    ],
    ids=["tabs", "spaces", "CoNLL-U"],
)
def test_tags(tmp_path, text):
    expected = [Example(["The", "dog"], ["DET", "NOUN"]), Example(["Run"], ["VERB"])]
    assert read_files([written(tmp_path / "a.conllu", text)], "tags") == expected


def test_words_of_wikiann_lose_their_language_and_others_keep_what_looks_like_one(tmp_path):
    wikiann = written(tmp_path / "a.txt", "en:The\tO\nen::\tO\nen:de:Paris\tB-LOC\n")
    assert read_files([wikiann], "tags")[0].parts == ["The", ":", "de:Paris"]
    plain = written(tmp_path / "b.txt", "http://a.b\tX\nde:Paris\tX\n")
    assert read_files([plain], "tags")[0].parts == ["http://a.b", "de:Paris"]


def test_a_word_may_begin_with_the_sign_of_a_comment(tmp_path):
    path = written(tmp_path / "a.tsv", "# text = a\tb\n#\tSYM\n#1\tX\n#global.columns = FORM\n")
    assert read_files([path], "tags") == [Example(["#", "#1"], ["SYM", "X"])]


def test_files_are_read_by_language_and_kind(tmp_path):
    one = written(tmp_path / "train-zh-CN.tsv", "text\tlabel\na\tx\n")
    two = written(tmp_path / "pairs.jsonl", '{"sentence1": "a", "sentence2": "b", "label": 1}\n')
    found = read_by_language([one, f"en={two}", f"en={two}"], "texts")
    assert found == {"zh_CN": [Example(["a"], ["x"])], "en": 2 * [Example(["a", "b"], ["1"])]}
    assert [example.place for example in found["en"]] == 2 * [f"{two}:1"]
    assert list(read_by_language([one, f"en={two}"], "texts", languages=["en"])) == ["en"]
    for sources, languages, message in (
        ([one, one], [], "both have zh_CN; name one of them, or write zh_CN= before each"),
        ([two], [], "neither its rows nor its name .* say the language"),
        ([one], ["fr"], "--langs: none of the files has fr"),
        ([tmp_path / "none"], [], "none: no such file"),
    ):
        with pytest.raises(InputError, match=message):
            read_by_language(sources, "texts", languages=languages)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("sentences", "one\ttwo\n", ":1: no columns named text or sentence or sentence1, label"),
        ("sentences", "", "no labelled text"),
        ("sentences", "text\tlabel\n", "no labelled text"),
        ("sentences", '{"text": "a"}\n', ":1: needs text"),
        ("sentences", '{"text": "a"\n', ":1: not a JSON object"),
        ("sentences", b"text\tlabel\nf\xfcr\tx\n", ":2: not UTF-8 .*iconv"),
        ("tags", "The\tDET\rdog\tNOUN\r", "its lines end in CR alone"),
        ("pairs", "a\tb\tneutral\na\tb\n", ":2: 2 columns; expected 3"),
        ("tags", "The\tDET\ndog\n", ":2: one column"),
    ],
)
def test_bad_input_names_its_place(tmp_path, kind, text, message):
    (tmp_path / "a.tsv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"a.tsv.*{message}"):
        read_files([tmp_path / "a.tsv"], kind)


def test_test_files_are_found_by_language(tmp_path, caplog):
    names = ["test-de.tsv", "dev.zh-CN.tsv.xz", "fr.jsonl", "train-en.tsv", "dev.tsv"]
    for name in names:
        (tmp_path / name).touch()
    found = files_by_language(tmp_path)
    assert {language: path.name for language, path in found.items()} == {
        "de": "test-de.tsv", "zh-CN": "dev.zh-CN.tsv.xz", "fr": "fr.jsonl"
    }  # fmt: skip
    assert caplog.messages == [f"{tmp_path}: not taken, as their names do not end in a language: dev.tsv"]
    with pytest.raises(InputError, match="dev.tsv: no file named like test-de.tsv"):
        files_by_language(tmp_path / "dev.tsv")
    (tmp_path / "more-de.tsv").touch()
    with pytest.raises(InputError, match="both of de"):
        files_by_language(tmp_path)


def test_a_csv_writers_quotes_are_named_and_taken_off(tmp_path, caplog):
    rows = '"He said ""no""."\ta\nplain\tb\n'
    path = written(tmp_path / "a.tsv", "text\tlabel\n" + rows)
    assert read_files([path], "sentences")[0].parts == ['"He said ""no""."']
    assert caplog.text.count("--unquote") == 1
    caplog.clear()
    assert read_files([path], "sentences", csv_quotes=True)[0].parts == ['He said "no".']
    raw = written(tmp_path / "b.tsv", 'text\tlabel\n"Yes," he said.\ta\n"All of it."\tb\n')
    assert read_files([raw], "sentences")[1].parts == ['"All of it."']
    assert not caplog.text
