"""Sentences tokenized word by word are what the tokenizer makes of them whole."""

import functools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.data import word_by_word
from ppa_fairseq.data.word_by_word import WordByWord

PARTS = ["a", "b", "ab", "abc", "é", "e", "東", "京", "।", "ß", "i", "\u0301", "ก", "가", ",", "(", "「", "-", "x"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = "".join(f"{token}\n" for token in [*SPECIALS, *PARTS, *(f"##{part}" for part in PARTS)])
OPTIONS = [
    '{"do_lower_case": false}',
    '{"do_lower_case": true}',
    '{"do_lower_case": false, "tokenize_chinese_chars": false}',
    '{"do_lower_case": false, "strip_accents": true}',
]
# What normalisation removes, joins, takes apart or takes for a space, beside what WordPiece knows.
ODD = ["\u200d", "\u00ad", "\ufe0f", "\u3000", "\xa0", "\t", "\x85", "\u2028", "\u0338", "\uac00", "İ", "Σ", "豈", "①"]
CHARACTERS = st.sampled_from([*PARTS, *ODD, " ", " ", "[UNK]", "[", "]", "A", "É"]) | st.characters(codec="utf-8")
TEXTS = st.lists(CHARACTERS, max_size=25)


@functools.cache
def tokenizer_of(options):
    return ModelTokenizer({"vocab.txt": VOCABULARY, "tokenizer_config.json": options}, "here")


def encoders(options):
    whole = Tokenizer.from_str(tokenizer_of(options).backend.to_str())  # a copy to change
    return whole, WordByWord(whole, tokenizer_of(options).symbols)


def tokens_of(whole, sentence):
    return " ".join(map(whole.id_to_token, whole.encode(sentence, add_special_tokens=False).ids))


@given(st.sampled_from(OPTIONS), st.lists(TEXTS.map("".join), max_size=4))
@example(OPTIONS[0], ["a [MASK]b", "a[UNK] b", "[ UNK ]", " ", "", "ab" * 60 + " ab", "a  b"])
@settings(deadline=None, max_examples=120)
def test_any_text_is_what_the_tokenizer_makes_of_it(options, sentences):
    whole, words = encoders(options)
    assert words.words is not None
    for _ in range(2):  # learnt, and remembered
        assert words.lines(sentences) == [tokens_of(whole, sentence) for sentence in sentences]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(word_by_word, "MAX_WORDS", 10)
    whole, words = encoders(OPTIONS[0])
    for number in range(50):
        sentence = f"ab {'a' * number} b"
        assert words.lines([sentence]) == [tokens_of(whole, sentence)]
        assert len(words.known) <= 10 + 3


def remake(options, change):
    whole, words = encoders(options)
    change(whole)
    return whole, WordByWord(whole, words.symbols + ["a b"])


@pytest.mark.parametrize("special", [True, False])
def test_an_added_token_across_words(special):
    token = AddedToken("a b", normalized=not special, special=special)
    whole, words = remake(OPTIONS[1], lambda whole: whole.add_tokens([token]))
    for sentence in ("x a b x", "x A B x", "a, b"):
        assert words.lines([sentence]) == [tokens_of(whole, sentence)]
    assert words.lines(["x a b x"]) == ["x a b x"]


def test_a_tokenizer_of_another_kind_gets_whole_sentences(tmp_path):
    from helpers.hf_folders import sample_sentences, train_sentencepiece

    train_sentencepiece(tmp_path / "sentencepiece.bpe.model")
    tokenizer = ModelTokenizer(read_files(tmp_path), "here")
    whole, words = tokenizer.backend, WordByWord(tokenizer.backend, tokenizer.symbols)
    # A space and a combining mark behind it are one to its normalisation.
    sentences = [*sample_sentences("test", 5), "a \u0308b", " a  b ", "¨ a"]
    assert words.lines(sentences) == [tokens_of(whole, sentence) for sentence in sentences]


def test_a_bert_of_another_normalisation_gets_whole_sentences():
    from tokenizers import normalizers

    def change(whole):
        whole.normalizer = normalizers.Replace("a b", "ab")

    whole, words = remake(OPTIONS[0], change)
    assert words.lines(["a b"]) == ["ab"] == [tokens_of(whole, "a b")]
