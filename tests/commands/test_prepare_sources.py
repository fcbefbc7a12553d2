"""The same pairs give the same bytes by every route: the formats and names in which bitext comes."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import zipfile
from xml.sax.saxutils import escape

import pytest
from helpers.bitext_data import tree, words, write_tsv

from ppa_fairseq.data.bitext.find_files import find_bitexts, parse_bitext
from ppa_fairseq.utils.errors import InputError

GERMAN, ENGLISH = words(1, 90), words(2, 90)
GERMAN[3] += " & <b>"  # XML escapes these
PAIRS = list(zip(GERMAN, ENGLISH, strict=True))
ENTITIES = ['<!DOCTYPE tmx [<!ENTITY a "aaaaaaaaaa">']
ENTITIES += [f'<!ENTITY {name} "{f"&{last};" * 10}">' for last, name in zip("abcdefgh", "bcdefghi", strict=True)]
BOMB = "".join(ENTITIES) + "]>"


def write_tmx(path, encoding="utf-8", codes=("de", "en"), pack=bytes, head="", units=""):
    def variant(code, text):
        return f'<tuv xml:lang="{code}"><seg>{escape(text)}</seg></tuv>'

    units = units or "".join(
        f"<tu><prop>x</prop>{variant(codes[1], english)}{variant(codes[0], german)}{variant('fr', 'un')}</tu>\n"
        for german, english in PAIRS
    )
    text = f'<?xml version="1.0" encoding="{encoding}"?>{head}<tmx version="1.4"><body>{units}</body></tmx>'
    path.write_bytes(pack(text.encode(encoding)))
    return path


def write_zip(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"README": "tab\there", "LICENSE": "free", **members}.items():
            archive.writestr(name, content)
    return path


def lines(texts):
    return "\n".join(texts) + "\n"


def moses(path):
    return write_zip(
        path,
        **{"Books.de-en.de": lines(GERMAN), "Books.de-en.en": lines(ENGLISH), "Books.de-en.ids": "a\tb\n" * 90},
    )


def write_jsonl(path, rows, pack=bytes):
    path.write_bytes(pack("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def write_parquet(path, columns):
    arrow = pytest.importorskip("pyarrow", reason="needs the extra sources")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(arrow.table(columns), path, row_group_size=40)
    return path


def save_dataset(path, splits):
    datasets = pytest.importorskip("datasets", reason="needs the extra sources")
    made = {name: datasets.Dataset.from_dict(columns) for name, columns in splits.items()}
    datasets.DatasetDict(made).save_to_disk(path)
    return path


def zst(content):
    return pytest.importorskip("backports.zstd", reason="needs the extra sources").compress(content)


TSV = "".join(f"{german}\t{english}\n" for german, english in PAIRS).encode()
NESTED = [{"translation": {"en": english, "de": german}, "id": 3} for german, english in PAIRS]
DICTS = [{"id": str(number), "en": english, "de": german} for number, (german, english) in enumerate(PAIRS)]

# What a user names, and how it is made in a folder; {} is the folder.
ROUTES = {
    "gz": ("de-en={}/a.tsv.gz", lambda at: (at / "a.tsv.gz").write_bytes(gzip.compress(TSV))),
    "xz": ("de-en={}/a.tsv.xz", lambda at: (at / "a.tsv.xz").write_bytes(lzma.compress(TSV))),
    "bz2": ("de-en={}/a.tsv.bz2", lambda at: (at / "a.tsv.bz2").write_bytes(bz2.compress(TSV))),
    "zst, several frames": (
        "de-en={}/a.tsv.zst",
        lambda at: (at / "a.tsv.zst").write_bytes(zst(TSV[:999]) + zst(TSV[999:])),
    ),
    "NLLB": ("{} --pivot eng_Latn", lambda at: (at / "deu_Latn-eng_Latn.gz").write_bytes(gzip.compress(TSV))),
    "Moses zip": ("{}", lambda at: moses(at / "de-en.txt.zip")),
    "Moses zip of OpusTools": ("{}", lambda at: moses(at / "Books_latest_moses_de-en.txt.zip")),
    "Moses zip by name": ("de-en={}/x.zip", lambda at: moses(at / "x.zip")),
    "packed in a zip": ("{}", lambda at: write_zip(at / "all.zip", **{"b/x.de-en.tsv.gz": gzip.compress(TSV)})),
    "TMX": ("{}", lambda at: write_tmx(at / "de-en.tmx")),
    "TMX, UTF-16": (
        "{}",
        lambda at: write_tmx(at / "Books.en-de.tmx.gz", "utf-16", ("de-DE", "EN"), gzip.compress),
    ),
    "TMX in a zip": (
        "{}",
        lambda at: write_zip(at / "de-en.zip", **{"memory.tmx": write_tmx(at.parent / "x.tmx").read_bytes()}),
    ),
    "JSON lines": ("{}", lambda at: write_jsonl(at / "de-en.jsonl", DICTS)),
    "JSON lines, nested, packed": ("{}", lambda at: write_jsonl(at / "de-en.json.gz", NESTED, gzip.compress)),
    "Parquet of sentence-transformers": (
        "{}",
        lambda at: [
            write_parquet(at / "en-de" / "train-00000-of-00001.parquet", {"english": ENGLISH, "non_english": GERMAN}),
            write_parquet(at / "en-de" / "dev-00000-of-00001.parquet", {"english": ["one"], "non_english": ["eins"]}),
        ],
    ),
    "Parquet of WMT": (
        "{}",
        lambda at: write_parquet(at / "x.de-en.parquet", {"translation": [row["translation"] for row in NESTED]}),
    ),
    "Parquet by column": (
        "de-en={}/a.parquet --columns wort,word",
        lambda at: write_parquet(at / "a.parquet", {"word": ENGLISH, "score": [1.0] * 90, "wort": GERMAN}),
    ),
    "saved data set": (
        "de-en={}/set",
        lambda at: save_dataset(
            at / "set", {"test": {"de": ["a"], "en": ["b"]}, "train": {"en": ENGLISH, "de": GERMAN}}
        ),
    ),
    "folder of a data set": (
        "de-en={}/set",
        lambda at: write_parquet(at / "set" / "train.parquet", {"source": GERMAN, "target": ENGLISH}),
    ),
}


def sides_of(folder):
    """{(train or valid, de or en): text}, whatever the pair is called."""
    files = {tuple(path.split(".")): content for path, content in tree(folder).items()}
    return {(parts[0], parts[2][:2]): content for parts, content in files.items() if len(parts) == 3 and parts[0]}


@pytest.mark.parametrize(("text", "make"), ROUTES.values(), ids=ROUTES.keys())
def test_every_route_gives_the_bytes_of_a_tsv(prepare, tmp_path, text, make):
    pytest.importorskip("lxml", reason="needs the extra sources")
    plain = write_tsv(tmp_path / "plain.tsv", GERMAN, ENGLISH)
    expected, _, _ = prepare(f"de-en={plain}")
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    found, statistics, printed = prepare(*text.format(source).split(), out="found")
    ((_, counts),) = statistics.items()
    assert counts["read"] == 90 and not counts["dropped"] and "not taken" not in printed
    assert sides_of(found) == sides_of(expected)
    assert len(sides_of(found)) == 4


def test_inline_codes_comments_and_line_breaks_of_a_tmx_are_no_text(tmp_path):
    pytest.importorskip("lxml", reason="needs the extra sources")
    german = "Ein <bpt i='1'>&lt;b&gt;</bpt><hi>guter</hi><ept i='1'>&lt;/b&gt;</ept> <!-- no --><ph>x</ph>Satz"
    units = (
        f"<tu><tuv lang='de'><seg>{german}</seg></tuv><tuv lang='en-GB'><seg>A good\n  sentence</seg></tuv>"
        "<tuv lang='en-US'><seg>other</seg></tuv></tu><tu><tuv lang='de'><seg>allein</seg></tuv></tu>"
    )
    path = write_tmx(tmp_path / "a.tmx", head='<!DOCTYPE tmx SYSTEM "tmx14.dtd">', units=units)
    rows = list(parse_bitext(f"de-en={path}").rows())
    assert [row[:2] for row in rows] == [("Ein guter Satz", "A good sentence"), ("allein", "")]
    assert next(parse_bitext(f"de-en_US={path}").rows())[:2] == ("Ein guter Satz", "other")


def test_a_tmx_larger_than_a_block_is_read_whole_in_little_memory(tmp_path):
    pytest.importorskip("lxml", reason="needs the extra sources")
    unit = "<tu><tuv lang='de'><seg>eins</seg></tuv><tuv lang='en'><seg>one</seg></tuv></tu>"
    path = write_tmx(tmp_path / "a.tmx", units=unit * 50_000)
    bitext = parse_bitext(f"de-en={path}")
    assert sum(row[:2] == ("eins", "one") for row in bitext.rows()) == 50_000
    assert bitext.position == bitext.size
    small = write_tmx(tmp_path / "small.tmx", units=unit)
    assert peak_memory(path) - peak_memory(small) < 10  # MiB; the tree of all units takes 60


def peak_memory(path):
    """MiB of a process that reads the file."""
    script = f"""from ppa_fairseq.data.bitext.find_files import parse_bitext
for row in parse_bitext("de-en={path}").rows(): pass
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])"""
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout) / 1024


def test_a_line_break_in_a_named_column_becomes_a_space(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"de": "ein\r\nSatz", "en": "one\ttext"}, {"de": None, "en": "x"}])
    assert [row[:2] for row in parse_bitext(f"de-en={path}").rows(None)] == [("ein Satz", "one text"), ("", "x")]


BAD = {
    "no zip": ("b.zip", b"no zip", "b.zip: truncated or damaged (File is not a zip file)"),
    "no pair in a zip": ("b.zip", lambda path: write_zip(path), "b.zip: no parallel text found"),
    "another pair in a zip": (
        "b.zip",
        lambda path: write_zip(path, **{"a.fr-en.tsv": "un\tone\n"}),
        "b.zip: no de-en in it, but fr-en; give that pair",
    ),
    "cut zst": ("b.tsv.zst", lambda path: path.write_bytes(zst(TSV)[:-9]), "b.tsv.zst: truncated or damaged"),
    "no zst": ("b.tsv.zst", b"no zst at all", "b.tsv.zst: truncated or damaged"),
    "cut bz2": ("b.tsv.bz2", bz2.compress(TSV)[:-9], "b.tsv.bz2: truncated or damaged"),
    "no bz2": ("b.tsv.bz2", b"no bz2 at all", "b.tsv.bz2: truncated or damaged"),
    "cut TMX": ("b.tmx", b"<tmx><body><tu><tuv lang='de'>", "b.tmx: no well-formed TMX"),
    "no TMX": ("b.tmx", TSV, "b.tmx: no well-formed TMX"),
    "TMX without the language": (
        "b.tmx",
        lambda path: write_tmx(path, codes=("it", "en")),
        "b.tmx: no translation unit in de and en; its languages: en, it, fr",
    ),
    "undeclared entity": (
        "b.tmx",
        lambda path: write_tmx(path, units="<tu><tuv lang='de'><seg>a&nbsp;b</seg></tuv></tu>"),
        "b.tmx: no well-formed TMX (Entity 'nbsp' not defined",
    ),
    "undeclared entity behind a DOCTYPE": (
        "b.tmx",
        lambda path: write_tmx(
            path,
            head='<!DOCTYPE tmx SYSTEM "tmx14.dtd">',
            units="<tu><tuv lang='de'><seg>a&nbsp;b</seg></tuv></tu>",
        ),
        "b.tmx: unit 1: the entity &nbsp; is not declared",
    ),
    "entities": (
        "b.tmx",
        lambda path: write_tmx(path, head="".join(ENTITIES[:3]) + "]>", units="<tu><seg>&c;</seg></tu>"),
        "b.tmx: declares entities (a, b, c)",
    ),
    "bomb of entities": (
        "b.tmx",
        lambda path: write_tmx(path, head=BOMB, units="<tu><tuv lang='de'><seg>&i;</seg></tuv></tu>"),
        "b.tmx: no well-formed TMX (",
    ),
    "bomb of entities in an attribute": (
        "b.tmx",
        lambda path: write_tmx(path, head=BOMB, units="<tu x='&i;'><tuv lang='de'><seg>a</seg></tuv></tu>"),
        "b.tmx: no well-formed TMX (",
    ),
    "entity of a file": (
        "b.tmx",
        lambda path: write_tmx(
            path,
            head=f'<!DOCTYPE tmx [<!ENTITY file SYSTEM "{path.parent / "good.tsv"}">]>',
            units="<tu><tuv lang='de'><seg>&file;</seg></tuv></tu>",
        ),
        "b.tmx: declares entities (file)",
    ),
    "JSON array": ("b.json", b'[{"de": "a", "en": "b"}]\n', "b.json: is a JSON array; write its objects one a line"),
    "JSON without the column": (
        "b.jsonl",
        b'{"de": "a", "fr": "b"}\n',
        "b.jsonl: no columns for de and en; it has de, fr",
    ),
    "JSON of numbers": ("b.jsonl", b'{"de": 1, "en": "b"}\n' * 9, "b.jsonl:1: its de is 1, not text"),
    "no JSON": ("b.jsonl", b"no JSON\n" * 9, "b.jsonl:1: no JSON object, one of 9 such lines"),
    "no Parquet": ("b.parquet", b"no Parquet", "b.parquet: no Parquet, or damaged"),
    "Parquet without the column": (
        "b.parquet",
        lambda path: write_parquet(path, {"de": ["a"], "fr": ["b"]}),
        "b.parquet: no columns for de and en; it has de, fr; --columns names the two languages",
    ),
    "Parquet of numbers": (
        "b.parquet",
        lambda path: write_parquet(path, {"de": [1], "en": ["b"]}),
        "b.parquet: its column de holds int64, not text",
    ),
    "empty folder": ("b", lambda path: path.mkdir(), "b: is a folder that `datasets` cannot load"),
    "names for a TSV": ("good.tsv --columns de,en", TSV, "good.tsv: no column de: the columns of a TSV have numbers"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_source_is_one_line_and_leaves_nothing(prepare, tmp_path, monkeypatch, name, content, message):
    pytest.importorskip("lxml", reason="needs the extra sources")
    monkeypatch.chdir(tmp_path)
    write_tsv(tmp_path / "good.tsv", GERMAN, ENGLISH)
    path = tmp_path / name.split()[0]
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    found = prepare(*f"de-en=good.tsv,{name}".split(), status=1)
    assert f"error: {message}" in found or f"error: {tmp_path}/{message}" in found
    assert not (tmp_path / "text").exists() and not list(tmp_path.glob(".text*"))


@pytest.mark.parametrize(
    ("module", "name"), [("lxml.etree", "b.tmx"), ("pyarrow.parquet", "b.parquet"), ("datasets", "b")]
)
def test_a_missing_library_names_the_extra(prepare, tmp_path, monkeypatch, module, name):
    (tmp_path / name).mkdir() if name == "b" else (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    message = f"{tmp_path / name}: needs {module}; pip install 'ppa_fairseq[sources]'"
    assert message in prepare(f"de-en={tmp_path / name}", status=1)


def test_a_damaged_zip_in_a_folder_is_named(tmp_path):
    (tmp_path / "de-en.txt.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="de-en.txt.zip: truncated or damaged"):
        find_bitexts(tmp_path)
