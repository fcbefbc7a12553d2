"""Our ids are AutoTokenizer's, for tokenizers of each kind; what cannot be used gets one clear line."""

import json
import unicodedata

import pytest
from helpers.hf_folders import TOKENIZERS, sample_sentences
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, escape, read_files, write_files
from ppa_fairseq.utils.errors import InputError

ODD = ["[MASK] <mask> [SEP] </s> <pad>", "", " ", "a\u0301 \x85b", "x\n\ny\tz  ", "😀 ٣ ﷺ ①½", "\\u0085", "ﬁne\u3000"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hund", "##e", "Hund", "é", "e", "東", "a"]


def load(folder):
    return ModelTokenizer(read_files(folder), str(folder))


def ids(tokenizer, *texts):
    return [encoding.ids for encoding in tokenizer.backend.encode_batch(list(texts))]


def write_vocabulary(folder, **config):
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **config}))
    return folder


@pytest.fixture(scope="module", params=TOKENIZERS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    TOKENIZERS[request.param](folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def assert_ids_are_theirs(folder, theirs, *more):
    ours = load(folder)
    texts = [*sample_sentences("test", 10), *ODD, *more]
    texts += [unicodedata.normalize(form, text) for text in texts[::3] for form in ("NFC", "NFD")]
    assert ids(ours, *texts) == theirs(texts)["input_ids"]
    pairs = [*zip(texts[::9], texts[1::9], strict=False)]
    assert ids(ours, *pairs) == theirs(*zip(*pairs, strict=True))["input_ids"]
    assert (ours.pad(), ours.mask()) == (theirs.pad_token_id, theirs.mask_token_id)
    assert len(ours) == len(theirs)
    return ours


def test_ids_are_those_of_auto_tokenizer(folder, tmp_path):
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = assert_ids_are_theirs(folder, theirs)
    write_files(read_files(folder), tmp_path)
    assert read_files(tmp_path) == read_files(folder)  # and so on, for ever
    assert load(tmp_path).difference(ours) is None
    assert_ids_are_theirs(tmp_path, AutoTokenizer.from_pretrained(tmp_path))


def test_added_tokens_are_not_split(folder, tmp_path):
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(["New York", AddedToken("Ünit", normalized=True)])
    theirs.add_special_tokens({"extra_special_tokens": ["<ent>"]})
    theirs.save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = assert_ids_are_theirs(tmp_path, theirs, "in New York<ent>", "an Ünit", "New  York")
    places = [theirs.convert_tokens_to_ids(token) for token in ("<ent>", "New York")]
    assert places[0] in ids(ours, "a<ent>b")[0] and places[1] in ids(ours, "a New York b")[0]
    assert places[0] in ours.special and places[1] not in ours.special


@pytest.mark.parametrize(
    ("name", "content", "token"),
    [
        ("added_tokens.json", {"<ent>": len(VOCABULARY)}, "<ent>"),
        ("special_tokens_map.json", {"additional_special_tokens": ["<ent>"]}, "<ent>"),
        ("tokenizer_config.json", {"additional_special_tokens": ["hunde"]}, "hunde"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {str(len(VOCABULARY)): {"content": "<e e>", "special": False}}},
            "<e e>",
        ),
    ],
    ids=["added_tokens", "special_tokens_map", "additional_special_tokens", "added_tokens_decoder"],
)
def test_tokens_are_taken_from_every_file(tmp_path, name, content, token):
    write_vocabulary(tmp_path, do_lower_case=False)
    path = tmp_path / name
    path.write_text(json.dumps(content | (json.loads(path.read_text()) if path.exists() else {})))
    theirs = AutoTokenizer.from_pretrained(write_config(tmp_path))
    assert ids(load(tmp_path), f"hund{token} a") == theirs([f"hund{token} a"])["input_ids"]
    assert load(tmp_path).symbols[len(VOCABULARY)] == escape(token)


def write_config(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def test_mberts_vocabulary(shared_data, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(shared_data("mbert-vocab").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    ours = assert_ids_are_theirs(tmp_path, AutoTokenizer.from_pretrained(write_config(tmp_path)))
    assert len(ours) == 119_547
    assert (ours.pad(), ours.unk(), ours.bos(), ours.eos(), ours.mask()) == (0, 100, 101, 102, 103)
    assert ours.special_ids() == [*range(100), 101, 102, 103] and ours.random_ids() == list(range(104, 119_547))
    assert ours.case_warning() is None


def test_only_a_vocabulary_is_read_with_the_defaults_of_transformers(tmp_path):
    write_vocabulary(tmp_path)
    theirs = AutoTokenizer.from_pretrained(write_config(tmp_path))
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").unlink()
    ours = load(tmp_path)
    assert ids(ours, "HUND É") == theirs(["HUND É"])["input_ids"] and ours.lowers_case
    assert ours.case_warning().startswith("WARNING: the tokenizer lower-cases") and "'Hund'" in ours.case_warning()


@pytest.mark.parametrize("option", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_every_option_counts(tmp_path, option):
    theirs = AutoTokenizer.from_pretrained(write_config(write_vocabulary(tmp_path, **{option: False})))
    ours, text = load(tmp_path), "Hund Hunde É a\u0301 東a"
    assert ids(ours, text) == theirs([text])["input_ids"]
    (tmp_path / "other").mkdir()
    other = load(write_vocabulary(tmp_path / "other"))
    assert ours.symbols == other.symbols and ours.difference(other) == "normalizer"


def test_two_sentences_are_laid_out_as_they_are(folder):
    ours, theirs = load(folder), AutoTokenizer.from_pretrained(folder)
    first, second = (ours.backend.encode(text, add_special_tokens=False).ids for text in ("a dog", "no"))
    laid = [ours.bos(), *first, ours.eos(), *ours.between, *second, ours.eos()]
    pair = theirs("a dog", "no")
    assert pair["input_ids"] == laid
    types = pair.get("token_type_ids", [0] * len(laid))  # a model that gets none takes 0
    assert types == [0] * (len(laid) - len(second) - 1) + [ours.second_type] * (len(second) + 1)


def test_special_ids_are_never_drawn(folder):
    ours, theirs = load(folder), AutoTokenizer.from_pretrained(folder)
    unknown = {ours.unk()} - {ours.pad()}
    assert set(theirs.all_special_ids) - unknown <= ours.special and not ours.special & unknown
    assert not {*theirs.all_special_ids, *unknown} & set(ours.random_ids())
    unused = [symbol for symbol in ours.symbols if "unused" in symbol]
    assert all(ours.symbols.index(symbol) in ours.special for symbol in unused)


@given(st.lists(st.text(alphabet=" \t\n\x85\u2028\\u0058ac", max_size=9), min_size=2, max_size=2, unique=True))
def test_escaped_tokens_are_different_and_without_white_space(tokens):
    one, other = map(escape, tokens)
    assert one != other and one.split() == [one] * bool(one)


def test_escapes_of_older_dictionaries_are_the_same():
    assert escape("▁a\x85\u2028") == "▁a\\u0085\\u2028"


def test_ids_without_a_token_have_a_name_and_are_special(tmp_path):
    write_vocabulary(tmp_path, do_lower_case=False)
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, "a", "b"]) + "\n")  # "a" twice: the later id counts
    ours = load(tmp_path)
    assert ours.symbols[VOCABULARY.index("a")] == "[unused-row-11]" and 11 in ours.special
    assert ids(ours, "a b") == [[2, 12, 13, 3]]


def test_it_neither_truncates_nor_pads(tmp_path):
    theirs = AutoTokenizer.from_pretrained(write_config(write_vocabulary(tmp_path)))
    theirs.backend_tokenizer.enable_truncation(4)
    theirs.backend_tokenizer.enable_padding(length=8)
    theirs.save_pretrained(tmp_path)
    assert [len(row) for row in ids(load(tmp_path), "a", "a a a a a a")] == [3, 8]


SENTENCE, CLS = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
ONLY_CLS = {
    "type": "TemplateProcessing",
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
    "single": [CLS, SENTENCE],
    "pair": [CLS, SENTENCE, {"Sequence": {"id": "B", "type_id": 0}}],
}


def edit_json(change, **config):
    def edit(folder):
        AutoTokenizer.from_pretrained(write_vocabulary(folder)).save_pretrained(folder)
        (folder / "vocab.txt").unlink()
        for name, edited in (("tokenizer.json", change), ("tokenizer_config.json", lambda c: c.update(config))):
            content = json.loads((folder / name).read_text())
            edited(content)
            (folder / name).write_text(json.dumps(content))

    return edit


def remote(folder):
    write_vocabulary(folder, tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")


FAULTS = {
    "nothing": (lambda folder: None, "has no tokenizer"),
    "no eos": (
        edit_json(lambda content: content.update(post_processor=ONLY_CLS), tokenizer_class="PreTrainedTokenizerFast"),
        "only one with a token before and a token behind",
    ),
    "no fast form": (
        lambda folder: write_vocabulary(folder, tokenizer_class="BertJapaneseTokenizer", word_tokenizer_type="basic"),
        "BertJapaneseTokenizer has no fast form",
    ),
    "no names": (
        lambda folder: (
            edit_json(lambda c: None)(folder),
            (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}'),
        ),
        "the tokenizer has no pad token",
    ),
    "not UTF-8": (lambda folder: (folder / "vocab.txt").write_bytes(b"a\n\xff\n"), "vocab.txt: not UTF-8"),
    "broken json": (lambda folder: (folder / "tokenizer.json").write_text('{"mo'), "tokenizer.json: no JSON"),
    "foreign json": (lambda folder: (folder / "tokenizer.json").write_text('{"model": {}}'), "cannot read the tok"),
    "broken config": (
        lambda folder: (write_vocabulary(folder) / "tokenizer_config.json").write_text("[1]"),
        "tokenizer_config.json: no JSON object",
    ),
    "foreign option": (lambda folder: write_vocabulary(folder, do_lower_case="no"), "cannot read the tokenizer (Type"),
    "remote code": (remote, "cannot read the tokenizer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_get_one_clear_line(tmp_path, fault):
    make, message = FAULTS[fault]
    make(tmp_path)
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
