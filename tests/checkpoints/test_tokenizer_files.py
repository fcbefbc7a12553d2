"""Token ids against transformers; tokenizer files that are broken, foreign or contradict each other."""

import json
import unicodedata
from functools import partial

import pytest
from transformers import BertTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from ppa_fairseq.checkpoints.tokenizer_files import (
    build_tokenizer,
    complete,
    load_tokenizer,
    lowers_case,
    read_files,
    symbols,
    write_files,
)
from ppa_fairseq.utils.errors import InputError

LANGUAGES = "ar bg de el en es fr hi ru sw th tr ur vi zh".split()
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = [*SPECIALS, "hund", "##e", "Hund", "é", "e", "東", "東京", "\u2028x", "a"]
SYMBOLS = [*VOCABULARY[:-2], r"\u2028x", "a"]  # white space, at which fairseq would cut, in escapes
TEXT = "Hund Hunde HUNDÉ 東京 [MASK] é a\u0301 \u2028x"


def write_vocabulary(folder, entries=VOCABULARY, end="\n", **config):
    (folder / "vocab.txt").write_bytes("".join(entry + end for entry in entries).encode())
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [{"do_lower_case": False}, {"do_lower_case": True}])
def test_ids_are_theirs_in_every_xnli_language(shared_data, tmp_path, config):
    vocabulary = shared_data("mbert-vocab")
    rows = {
        language: (shared_data("xnli-dev") / f"dev-{language}.tsv").read_text("utf-8").splitlines()
        for language in LANGUAGES
    }
    write_vocabulary(tmp_path, vocabulary.read_text("utf-8").splitlines(), **config)
    ours = load_tokenizer(tmp_path)
    theirs = BertTokenizer.from_pretrained(tmp_path)
    in_python = BertTokenizerLegacy(str(vocabulary), **config)
    for language in LANGUAGES:
        pairs = [tuple(row.split("\t")[:2]) for row in rows[language][:600]]
        texts = [side for pair in pairs for side in pair]
        ids = [encoding.ids for encoding in ours.encode_batch(texts)]
        assert ids == theirs(texts)["input_ids"]
        # The tokenizer in Python composes characters first (NFC); BertTokenizer no longer does.
        composed = [unicodedata.normalize("NFC", text) for text in texts[::40]]
        assert [ours.encode(text).ids for text in composed] == in_python(composed)["input_ids"]
        assert max(map(len, ids)) > 10
        joined, expected = ours.encode_batch(pairs[::30]), theirs(*zip(*pairs[::30], strict=True))
        assert [encoding.ids for encoding in joined] == expected["input_ids"]
        assert [encoding.type_ids for encoding in joined] == expected["token_type_ids"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"strip_accents": False},
        {"do_lower_case": False, "tokenize_chinese_chars": False},
    ],
)
def test_every_option_is_theirs(tmp_path, config):
    ours = load_tokenizer(write_vocabulary(tmp_path, **config))
    theirs = BertTokenizer.from_pretrained(tmp_path)
    assert ours.encode(TEXT).tokens == theirs.convert_ids_to_tokens(theirs(TEXT)["input_ids"])
    assert lowers_case(ours) == config.get("do_lower_case", True)


def test_a_made_tokenizer_json_and_config_say_the_same(tmp_path):
    texts = read_files(write_vocabulary(tmp_path, do_lower_case=False))
    made = complete(texts, "here", 512)
    assert made["tokenizer_config.json"] == texts["tokenizer_config.json"]
    del made["vocab.txt"], made["tokenizer_config.json"]
    again = complete(made, "here", 512)
    assert json.loads(again["tokenizer_config.json"])["do_lower_case"] is False
    write_files(again, tmp_path)
    (tmp_path / "vocab.txt").unlink()
    ids = build_tokenizer(texts, "here").encode(TEXT).ids
    assert (
        load_tokenizer(tmp_path).encode(TEXT).ids
        == BertTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"]
    )
    assert load_tokenizer(tmp_path).encode(TEXT).ids == ids
    assert symbols(again, "here") == symbols(texts, "here") == SYMBOLS


def test_files_come_back_to_the_byte(tmp_path):
    texts = read_files(write_vocabulary(tmp_path, end="\r\n", do_lower_case=False))
    (tmp_path / "copy").mkdir()
    write_files({**texts, "evil.py": ""}, tmp_path / "copy")
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert len(list((tmp_path / "copy").iterdir())) == 2
    assert symbols(texts, "here") == SYMBOLS


def test_it_neither_cuts_nor_pads(tmp_path):
    tokenizer = load_tokenizer(write_vocabulary(tmp_path))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    loaded = build_tokenizer({"tokenizer.json": tokenizer.to_str()}, "here")
    assert [len(one.ids) for one in loaded.encode_batch(["a", "a a a a a a"])] == [3, 8]


def test_a_repeated_line_keeps_its_id_and_the_last_one_is_used(tmp_path):
    texts = read_files(write_vocabulary(tmp_path, [*VOCABULARY, "a"]))
    assert symbols(texts, "here") == [*SYMBOLS, "a"]
    assert build_tokenizer(texts, "here").token_to_id("a") == len(VOCABULARY)


def make_json(folder, change):
    tokenizer = load_tokenizer(write_vocabulary(folder, do_lower_case=False))
    content = json.loads(tokenizer.to_str())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def drop_line(folder, line):
    write_vocabulary(folder, [entry for entry in VOCABULARY if entry != line])


FAULTS = {
    "no files": (lambda folder: None, "no tokenizer.json, sentencepiece.bpe.model or vocab.txt"),
    "no mask": (partial(drop_line, line="[MASK]"), r"vocab.txt: no line \[MASK\]"),
    "no special in json": (
        lambda folder: make_json(
            folder, lambda c: (c["added_tokens"].pop(0), c["model"]["vocab"].pop("[PAD]"))
        ),
        r"has no \[PAD\]",
    ),
    "not utf-8": (lambda folder: (folder / "vocab.txt").write_bytes(b"a\n\xff\n"), "vocab.txt: not UTF-8"),
    "broken json": (
        lambda folder: (folder / "tokenizer.json").write_text('{"mo'),
        "tokenizer.json: cannot be read",
    ),
    "broken config": (
        lambda folder: (write_vocabulary(folder) / "tokenizer_config.json").write_text("[1]"),
        "tokenizer_config.json: no JSON object",
    ),
    "foreign option": (
        lambda folder: write_vocabulary(folder, do_lower_case="no"),
        "not as transformers writes it",
    ),
    "json contradicts the vocabulary": (
        lambda folder: (make_json(folder, lambda c: None), write_vocabulary(folder, VOCABULARY[::-1])),
        "take both files from the same model",
    ),
    "json contradicts the config": (
        lambda folder: (make_json(folder, lambda c: None), write_vocabulary(folder, do_lower_case=True)),
        "do_lower_case is true .* works with false",
    ),
    "a config that leaves it to the default": (
        lambda folder: (make_json(folder, lambda c: None), write_vocabulary(folder, model_max_length=512)),
        "do_lower_case is true",
    ),
    "an id without a symbol": (
        lambda folder: (
            make_json(folder, lambda c: c["model"]["vocab"].pop("é")),
            (folder / "vocab.txt").unlink(),
        ),
        "no symbol has the id 8",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_get_one_clear_line(tmp_path, fault):
    make, message = FAULTS[fault]
    make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        symbols(complete(read_files(tmp_path), str(tmp_path), 512), str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
