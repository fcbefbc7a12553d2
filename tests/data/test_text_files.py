"""Lines of text files in constant memory; encodings and line ends that are not taken are named."""

import csv
import gzip
import io
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppa_fairseq.data import text_files
from ppa_fairseq.data.text_files import LANGUAGE_IN_NAME, MAX_LINE, LineReader, text_lines, unquote
from ppa_fairseq.utils.errors import InputError


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_line_without_end_is_not_kept_in_memory(tmp_path, monkeypatch, ending, pack):
    monkeypatch.setattr(text_files, "BLOCK", 1000)
    path = tmp_path / f"a.tsv{ending}"
    path.write_bytes(pack(b"ein guter satz\ta good sentence\n" + b"x" * 10 * MAX_LINE))
    assert MAX_LINE < max(map(len, LineReader(path))) <= MAX_LINE + 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("eins\n".encode("utf-16"), "is UTF-16, not UTF-8; convert it: cat .*a.txt | iconv", id="UTF-16"),
        pytest.param("eins\nzwei\n".encode("utf-16-le"), "is UTF-16LE, not UTF-8; .*iconv -f UTF-16LE", id="UTF-16LE"),
        pytest.param("eins\nzwei\n".encode("utf-16-be"), "is UTF-16BE, not UTF-8", id="UTF-16BE"),
        pytest.param("eins\n".encode("utf-32"), "is UTF-32, not UTF-8; .*iconv -f UTF-32", id="UTF-32"),
        pytest.param(b"eins\rzwei\rdrei\n", "its lines end in CR alone", id="CR, then LF"),
        pytest.param(b"eins\nzwei\rdrei\nvier\n", ":2: a CR inside the line", id="CR inside"),
        pytest.param(b"eins\rzwei\rdrei\r", r"its lines end in CR alone.* cat .*a.txt | tr '\\r' '\\n'", id="CR"),
        pytest.param("eins\nschön\n".encode("latin-1"), ":2: not UTF-8 .*iconv .* if it is Latin-1", id="Latin-1"),
        pytest.param(b"eins\n \n", ":2: an empty line", id="empty line"),
        pytest.param(b"", ": the file is empty", id="empty"),
        pytest.param(b"x" * (MAX_LINE + 1), ":1: a line of over", id="long"),
    ],
)
def test_text_that_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        list(text_lines(tmp_path / "a.txt"))


def test_advice_for_a_packed_file_unpacks_it(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"eins\rzwei\r"))
    with pytest.raises(InputError, match=r"zcat .*a.gz \| tr"):
        list(LineReader(tmp_path / "a.gz"))


def test_text_lines_takes_windows_line_ends_and_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffeins\r\nzwei".encode())
    assert list(text_lines(tmp_path / "a.txt")) == ["eins", "zwei"]


CELLS = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]))


@given(CELLS, st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_unquote_reverses_a_csv_writer(text, quoting):
    written = io.StringIO()
    csv.writer(written, delimiter="\t", quoting=quoting, lineterminator="").writerow([text, "x"])
    assert unquote(written.getvalue().rpartition("\t")[0]) == text


@pytest.mark.parametrize("cell", ["", '"', 'a "b" c', '"a" and "b"', '"a', 'a"', '"""'])
def test_unquote_leaves_raw_quotes(cell):
    assert unquote(cell) == cell


def test_language_in_name_is_a_code():
    codes = ["de", "deu", "zh_CN", "zh-CN", "pt_br", "sr_Latn"]
    assert all(map(LANGUAGE_IN_NAME.fullmatch, codes))
    assert not any(map(LANGUAGE_IN_NAME.fullmatch, ["d", "train", "v1", "DE", "zh-cn", "TED2020"]))
