"""Our ids are AutoTokenizer's, for tokenizers of each kind; what cannot be used gets one clear line."""

import json
import unicodedata

import pytest
from helpers.hf_folders import TOKENIZERS, sample_sentences
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from ppa_fairseq.checkpoints import tokenizer as module
from ppa_fairseq.checkpoints.tokenizer import CONFIG, NOTE, ModelTokenizer, escape, read_files, write_files
from ppa_fairseq.utils.errors import InputError

ODD = ["[MASK] <mask> [SEP] </s> <pad>", "", " ", "a\u0301 \x85b", "x\n\ny\tz  ", "😀 ٣ ﷺ ①½", "\\u0085", "ﬁne\u3000"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hund", "##e", "Hund", "é", "e", "東", "a"]


def load(folder):
    return ModelTokenizer(read_files(folder), str(folder))


def ids(tokenizer, *texts):
    return [encoding.ids for encoding in tokenizer.backend.encode_batch(list(texts))]


def write_vocabulary(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    (folder / CONFIG).write_text(json.dumps({"tokenizer_class": "BertTokenizer", **config}))
    return folder


@pytest.fixture(scope="module", params=TOKENIZERS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    TOKENIZERS[request.param](folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def assert_ids_are_theirs(ours, theirs, *more):
    texts = [*sample_sentences("test", 10), *ODD, *more]
    texts += [unicodedata.normalize(form, text) for text in texts[::3] for form in ("NFC", "NFD")]
    assert ids(ours, *texts) == theirs(texts)["input_ids"]
    pairs = [*zip(texts[::9], texts[1::9], strict=False)]
    assert ids(ours, *pairs) == theirs(*zip(*pairs, strict=True))["input_ids"]
    assert len(ours) == len(theirs) and (ours.pad(), ours.mask()) == (theirs.pad_token_id, theirs.mask_token_id)
    unknown = {ours.unk()} - {ours.pad()}
    assert set(theirs.all_special_ids) - unknown <= ours.special and not ours.special & unknown
    # Two sentences are laid out as our side lays them out.
    first, second = (ours.backend.encode(text, add_special_tokens=False).ids for text in ("a dog", "no"))
    pair = theirs("a dog", "no")
    assert pair["input_ids"] == [ours.bos(), *first, ours.eos(), *ours.between, *second, ours.eos()]
    types = pair.get("token_type_ids", [0] * len(pair["input_ids"]))  # a model that gets none takes 0
    assert types == [0] * (len(types) - len(second) - 1) + [ours.second_type] * (len(second) + 1)


def test_ids_and_layout_are_those_of_auto_tokenizer(folder, tmp_path):
    ours = load(folder)
    assert_ids_are_theirs(ours, AutoTokenizer.from_pretrained(folder))
    assert {index for index, symbol in enumerate(ours.symbols) if "unused" in symbol} <= ours.special
    write_files(read_files(folder), tmp_path)
    assert_ids_are_theirs(ours, AutoTokenizer.from_pretrained(tmp_path))


def test_the_note_says_what_transformers_would(folder, tmp_path, monkeypatch):
    texts = read_files(folder, 12)
    config = json.loads(texts[CONFIG])
    del config[NOTE]
    asked = ModelTokenizer(texts | {CONFIG: json.dumps(config)}, "without a note")
    write_files(texts, tmp_path)
    assert module.max_length(texts) == 12 and module.max_length(read_files(tmp_path, 9)) == 9
    monkeypatch.setattr(module, "_auto_tokenizer", None)  # from here on, a call of it fails
    assert read_files(tmp_path, 20) == texts
    noted = load(tmp_path)
    assert asked.difference(noted) is None
    del asked.backend, noted.backend
    assert vars(asked) == vars(noted)


def test_added_tokens_are_not_split(folder, tmp_path):
    write_files(read_files(folder), tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    theirs.add_tokens(["New York", AddedToken("Ünit", normalized=True)])
    theirs.add_special_tokens({"extra_special_tokens": ["<ent>"]})
    theirs.save_pretrained(tmp_path)
    assert NOTE in json.loads((tmp_path / CONFIG).read_text())  # transformers keeps it, but it is no longer true
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load(tmp_path)
    assert_ids_are_theirs(ours, theirs, "in New York<ent>", "an Ünit", "New  York")
    places = [theirs.convert_tokens_to_ids(token) for token in ("<ent>", "New York")]
    assert places[0] in ids(ours, "a<ent>b")[0] and places[1] in ids(ours, "a New York b")[0]
    assert places[0] in ours.special and places[1] not in ours.special


IN_DECODER = {"added_tokens_decoder": {str(len(VOCABULARY)): {"content": "<e e>", "special": False}}}


@pytest.mark.parametrize(
    ("name", "content", "token"),
    [
        pytest.param("added_tokens.json", {"<ent>": len(VOCABULARY)}, "<ent>", id="added_tokens"),
        pytest.param("special_tokens_map.json", {"additional_special_tokens": ["<ent>"]}, "<ent>", id="map"),
        pytest.param(CONFIG, {"additional_special_tokens": ["hunde"]}, "hunde", id="additional_special_tokens"),
        pytest.param(CONFIG, IN_DECODER, "<e e>", id="added_tokens_decoder"),
    ],
)
def test_tokens_are_taken_from_every_file(tmp_path, name, content, token):
    path = write_vocabulary(tmp_path, do_lower_case=False) / name
    path.write_text(json.dumps(content | (json.loads(path.read_text()) if path.exists() else {})))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load(tmp_path)
    assert ids(ours, f"hund{token} a") == theirs([f"hund{token} a"])["input_ids"]
    assert ours.symbols[len(VOCABULARY)] == escape(token)


def test_mberts_vocabulary(shared_data, tmp_path):
    write_vocabulary(tmp_path, do_lower_case=False)
    (tmp_path / "vocab.txt").write_bytes(shared_data("mbert-vocab").read_bytes())
    ours = load(tmp_path)
    assert_ids_are_theirs(ours, AutoTokenizer.from_pretrained(tmp_path))
    assert (len(ours), ours.pad(), ours.unk(), ours.bos(), ours.eos(), ours.mask()) == (119_547, 0, 100, 101, 102, 103)
    assert ours.special_ids() == [*range(100), 101, 102, 103] and ours.case_warning() is None


def test_a_vocabulary_alone_is_read_with_the_defaults_of_transformers(tmp_path):
    theirs = AutoTokenizer.from_pretrained(write_vocabulary(tmp_path))
    (tmp_path / CONFIG).unlink()
    (tmp_path / "config.json").unlink()
    ours = load(tmp_path)
    assert ids(ours, "HUND É") == theirs(["HUND É"])["input_ids"]
    assert ours.case_warning().startswith("WARNING: the tokenizer lower-cases") and "'Hund'" in ours.case_warning()


@pytest.mark.parametrize("option", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_every_option_counts(tmp_path, option):
    theirs = AutoTokenizer.from_pretrained(write_vocabulary(tmp_path / "one", **{option: False}))
    ours, other = load(tmp_path / "one"), load(write_vocabulary(tmp_path / "other"))
    text = "Hund Hunde É a\u0301 東a"
    assert ids(ours, text) == theirs([text])["input_ids"]
    assert ours.symbols == other.symbols and ours.difference(other) == "normalizer"


@given(st.lists(st.text(alphabet=" \t\n\x85\u2028\\u0058ac", max_size=9), min_size=2, max_size=2, unique=True))
def test_escaped_tokens_are_different_and_without_white_space(tokens):
    one, other = map(escape, tokens)
    assert one != other and one.split() == [one] * bool(one)
    assert escape("▁a\x85\u2028") == "▁a\\u0085\\u2028"  # as in dictionaries of older versions


def test_ids_without_a_token_have_a_name_and_are_special(tmp_path):
    write_vocabulary(tmp_path, do_lower_case=False)
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, "a", "b"]) + "\n")  # "a" twice: the later id counts
    ours = load(tmp_path)
    assert ours.symbols[VOCABULARY.index("a")] == "[unused-row-11]" and 11 in ours.special
    assert ids(ours, "a b") == [[2, 12, 13, 3]]


def test_it_neither_truncates_nor_pads(tmp_path):
    theirs = AutoTokenizer.from_pretrained(write_vocabulary(tmp_path))
    theirs.backend_tokenizer.enable_truncation(4)
    theirs.backend_tokenizer.enable_padding(length=8)
    theirs.save_pretrained(tmp_path)
    assert [len(row) for row in ids(load(tmp_path), "a", "a a a a a a")] == [3, 8]


def write_json(folder, change=lambda content: None, **config):
    """tokenizer.json and its configuration, changed, instead of vocab.txt."""
    AutoTokenizer.from_pretrained(write_vocabulary(folder)).save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / CONFIG).write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))


def drop_eos(content):
    content["post_processor"]["single"].pop()


def write_byte_level(folder):
    TOKENIZERS["byte level"](folder)
    (folder / CONFIG).unlink()  # so that the model's type decides
    (folder / "config.json").write_text('{"model_type": "bert"}')


def write_remote(folder):
    write_vocabulary(folder, tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")


JAPANESE = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"}
NAMES = {"pad_token": "[PAD]", "mask_token": "[MASK]"}
FAULTS = {
    "nothing": (lambda folder: None, "has no tokenizer"),
    "no eos": (lambda folder: write_json(folder, drop_eos, **NAMES), "only one with a token before and a token behind"),
    "no fast form": (lambda folder: write_vocabulary(folder, **JAPANESE), "BertJapaneseTokenizer has no fast form"),
    "no names": (write_json, "the tokenizer has no pad token"),
    "not UTF-8": (lambda folder: (folder / "vocab.txt").write_bytes(b"a\n\xff\n"), "vocab.txt: not UTF-8"),
    "broken json": (lambda folder: (folder / "tokenizer.json").write_text('{"mo'), "tokenizer.json: no JSON"),
    "another kind": (write_byte_level, "transformers makes a WordPiece of the BPE in tokenizer.json"),
    "split specials": (
        lambda folder: write_vocabulary(folder, split_special_tokens=True),
        "the tokenizer splits special tokens; set",
    ),
    "foreign option": (lambda folder: write_vocabulary(folder, do_lower_case="no"), "cannot read the tokenizer (Type"),
    "remote code": (write_remote, "cannot read the tokenizer"),
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
