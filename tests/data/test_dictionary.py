"""Ids are line numbers, for all of a real vocabulary and for odd symbols; fairseq's own encoding agrees."""

import pickle

import pytest
import torch
from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDataset
from helpers.hf_folders import TOKENIZERS, sample_sentences
from hypothesis import given
from hypothesis import strategies as st

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.utils.errors import InputError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Where str.split, str.splitlines, str.rstrip or files with universal newlines cut; and what fairseq's own
# reader takes for a flag.
ODD = ["\u2028", "\u2029", "\x85", "a\xa0", "\u3000", "\x1c", "\r", "x\r", "\ufeff", "\u200b", "", "#fairseq:overwrite"]


def write_dict(path, symbols):
    path.write_bytes("".join(f"{symbol} 1\n" for symbol in symbols).encode())
    return str(path)


def test_every_symbol_of_mbert_keeps_its_line(shared_data, tmp_path):
    symbols = shared_data("mbert-vocab").read_bytes().decode().split("\n")[:-1]
    path = write_dict(tmp_path / "dict.txt", symbols)
    dictionary = WordPieceDictionary.load(path)
    assert dictionary.symbols == symbols
    dictionary.save(str(tmp_path / "saved.txt"))
    assert (tmp_path / "saved.txt").read_bytes() == (tmp_path / "dict.txt").read_bytes()
    ids = dictionary.encode_line(" ".join(symbols), add_if_not_exist=False, append_eos=False)
    assert torch.equal(ids, torch.arange(119_547, dtype=torch.int32))
    specials = dictionary.pad(), dictionary.unk(), dictionary.bos(), dictionary.eos(), dictionary.mask()
    assert specials == (0, 100, 101, 102, 103)
    assert dictionary.special_ids() == [*range(100), 101, 102, 103]  # with [unused1] ... [unused99]
    assert dictionary.random_ids() == list(range(104, 119_547))


@pytest.mark.parametrize("nested", [False, True], ids=["beside", "two folders below"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_any_vocabulary_survives_dict_txt_and_lines_of_text(kind, nested, tmp_path):
    """Tokens of white space, too; and the tokenizer beside dict.txt says what is special, not the names."""
    TOKENIZERS[kind](tmp_path)
    tokenizer = ModelTokenizer(read_files(tmp_path), kind)
    (tmp_path / "de" / "input0").mkdir(parents=True)
    place = tmp_path / "de" / "input0" / "dict.txt" if nested else tmp_path / "dict.txt"
    dictionary = WordPieceDictionary.load(write_dict(place, tokenizer.symbols))
    ids = dictionary.encode_line(" ".join(tokenizer.symbols), append_eos=False)
    assert ids.tolist() == list(range(len(tokenizer)))
    for text in ("a\n\n b\t\x85c", *sample_sentences("test", 2)):
        ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
        line = " ".join(tokenizer.symbols[index] for index in ids)
        assert dictionary.encode_line(line).tolist() == [*ids, dictionary.eos()]
    for name in ("bos", "pad", "eos", "unk", "mask", "special_ids"):
        assert getattr(dictionary, name)() == getattr(tokenizer, name)()
    assert (dictionary.between, dictionary.second_type) == (tokenizer.between, tokenizer.second_type)


def test_a_dictionary_of_another_tokenizer_is_refused(tmp_path):
    TOKENIZERS["WordPiece"](tmp_path)
    path = write_dict(tmp_path / "dict.txt", [*SPECIALS, "a"])
    with pytest.raises(InputError, match="dict.txt: its symbols differ from those of the tokenizer there"):
        WordPieceDictionary.load(path)


def test_odd_symbols_and_counts_survive(tmp_path):
    symbols = ["a", *ODD, *SPECIALS, "b"]
    (tmp_path / "dict.txt").write_bytes("".join(f"{symbol} {7 * i}\n" for i, symbol in enumerate(symbols)).encode())
    dictionary = WordPieceDictionary.load(str(tmp_path / "dict.txt"))
    assert dictionary.symbols == symbols and dictionary.count == [7 * i for i in range(len(symbols))]
    dictionary.save(str(tmp_path / "saved.txt"))
    assert (tmp_path / "saved.txt").read_bytes() == (tmp_path / "dict.txt").read_bytes()


def test_a_symbol_that_stands_twice_is_found_at_its_later_line():
    dictionary = WordPieceDictionary([*SPECIALS, "a", "b", "a"])
    assert len(dictionary) == 8
    assert dictionary.index("a") == 7


def test_names_find_the_special_tokens_of_both_kinds():
    bert = WordPieceDictionary([*SPECIALS, "a", "</s>"])
    assert (bert.bos(), bert.pad(), bert.eos(), bert.unk(), bert.mask()) == (2, 0, 3, 1, 4)
    assert (bert.between, bert.second_type) == ([], 1)
    xlm = WordPieceDictionary(["<s>", "<pad>", "</s>", "<unk>", "▁a", "[CLS]", "<mask>"])
    assert (xlm.bos(), xlm.pad(), xlm.eos(), xlm.unk(), xlm.mask()) == (0, 1, 2, 3, 6)
    assert (xlm.between, xlm.second_type) == ([2], 0)
    assert xlm.special_ids() == [0, 1, 2, 6] and xlm.random_ids() == [4, 5]
    assert xlm.encode_line("▁a b <mask>").tolist() == [4, 3, 6, 2]
    assert xlm.string(torch.tensor([4, 3, 2])) == "▁a <unk>"
    with pytest.raises(InputError, match="no <mask> among its 4 symbols; give the dict.txt"):
        WordPieceDictionary(["<s>", "<pad>", "</s>", "<unk>"])


def test_special_ids_are_those_of_the_method():
    symbols = ["[unused12]", "a", *SPECIALS, "[unused]", "[unused1]x", "##[unused1]", "[unused7]"]
    dictionary = WordPieceDictionary(symbols)
    never_masked = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "[unused12]", "[unused7]"}
    assert {symbols[index] for index in dictionary.special_ids()} == never_masked
    assert {symbols[index] for index in dictionary.random_ids()} == set(symbols) - never_masked - {"[UNK]"}


@given(
    st.lists(st.sampled_from(["a", "##b", "[UNK]", "[SEP]", "\u200b", "zzz", "€"]) | st.text(max_size=3)),
    st.lists(st.sampled_from([" ", "  ", "\t", "\u3000", "\x1c", "\n"]), min_size=1),
    st.booleans(),
)
def test_encode_line_agrees_with_fairseq(words, spaces, append_eos):
    dictionary = WordPieceDictionary([*SPECIALS, "a", "##b", "\u200b"])
    line = "".join(word + spaces[place % len(spaces)] for place, word in enumerate(words))
    found, expected = [], []
    flags = {"add_if_not_exist": False, "append_eos": append_eos}
    ids = dictionary.encode_line(line, consumer=lambda *seen: found.append(seen), **flags)
    oracle = Dictionary.encode_line(dictionary, line, consumer=lambda *seen: expected.append(seen), **flags)
    assert ids.dtype == oracle.dtype == torch.int32
    assert torch.equal(ids, oracle)
    assert found == expected and len(dictionary) == len(SPECIALS) + 3  # an unknown symbol is never added


def test_processes_binarize_as_one_does(tmp_path):
    dictionary = WordPieceDictionary([*SPECIALS, *(f"w{i}" for i in range(50))])
    assert pickle.loads(pickle.dumps(dictionary)).mask() == 4
    text = tmp_path / "text"
    lines = [" ".join(f"w{(line * place) % 60}" for place in range(line % 7)) for line in range(300)]
    text.write_text("\n".join(lines) + "\n")
    binarizer = VocabularyDatasetBinarizer(dictionary)
    for workers in (1, 3):
        prefix = str(tmp_path / f"by{workers}")
        FileBinarizer.multiprocess_dataset(str(text), "mmap", binarizer, prefix, len(dictionary), workers)
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"by1{suffix}").read_bytes() == (tmp_path / f"by3{suffix}").read_bytes()
    dataset = MMapIndexedDataset(str(tmp_path / "by3"))
    known = [" ".join(word if int(word[1:]) < 50 else "[UNK]" for word in line.split()) for line in lines]
    assert [dictionary.string(row) for row in dataset] == known


@pytest.mark.parametrize("missing", SPECIALS)
def test_a_missing_special_is_named(tmp_path, missing):
    path = write_dict(tmp_path / "dict.txt", [symbol for symbol in SPECIALS if symbol != missing])
    with pytest.raises(InputError, match=rf"dict\.txt: no \{missing[:-1]}\] among its 4 symbols"):
        WordPieceDictionary.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD] 1\n[UNK]\n", r"dict\.txt:2: expected `symbol count`, not '\[UNK\]'"),
        (b"[PAD] 1\n[UNK] many\n", r"dict\.txt:2: expected `symbol count`"),
        (b"\xff\xfe[PAD] 1\n", r"dict\.txt: not UTF-8"),
        (b"", r"dict\.txt:1: expected `symbol count`, not ''"),
        (None, r"dict\.txt: no such file"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "dict.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        WordPieceDictionary.load(str(tmp_path / "dict.txt"))


def test_files_of_something_else_above_the_dictionary_are_ignored(tmp_path, dictionary):
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "data").mkdir()
    dictionary.save(str(tmp_path / "data" / "dict.txt"))
    assert WordPieceDictionary.load(str(tmp_path / "data" / "dict.txt")).symbols == dictionary.symbols
