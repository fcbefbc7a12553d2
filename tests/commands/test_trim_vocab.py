"""A trimmed model does on the corpus what the whole one does, bit for bit; and any text can still be tokenized."""

import json
import lzma

import pytest
import torch
from helpers.hf_folders import TOKENIZERS, make_xlm_roberta, sample_sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.trimming import cut_files, make_counter, needed_by_any_text
from ppa_fairseq.modules.packing import pack as pack_sentences
from ppa_fairseq.utils.errors import InputError

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNUSED = [f"[unused{i}]" for i in range(1, 100)]
BERT = [SPECIALS[0], *UNUSED, *SPECIALS[1:]]  # as in mBERT: [CLS] is 101
TOKENS = ["a", "b", "c", "##a", "##b", "##c", "ab", "abc", "##bc", "##cab", "ca", "##ab", "bca", "##d", "##cd", "."]
VOCABULARY = (*BERT, *TOKENS, "東", "京", "##x", "longer", "##est")


def run(*arguments, status=0):
    assert cli.main(["trim-vocab", *map(str, arguments), "--workers", "1"]) == status


def pack(path, lines):
    path.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def cut_to(vocabulary, sentences):
    """The tokenizer with all of *vocabulary*, and with what *sentences* need of it."""
    texts = {"vocab.txt": "".join(f"{t}\n" for t in vocabulary), "tokenizer_config.json": '{"do_lower_case": false}'}
    whole, used = ModelTokenizer(texts, "here"), make_counter(texts, "here")(sentences)
    needed = needed_by_any_text(whole)
    kept = [index for index, token in enumerate(vocabulary) if token in used or index in needed]
    cut = ModelTokenizer(cut_files(texts, kept, "here"), "here").backend
    assert cut.get_vocab_size() == len(kept)
    return whole.backend, cut


WORDS = st.text("abcd", min_size=1, max_size=9)


@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=5), st.sets(st.sampled_from(TOKENS)))
@settings(deadline=None, max_examples=100)
@example(["abcd", "ab", "acd"], [], {"##d"})  # without `abc`, the first becomes `ab ##cd`
def test_a_corpus_keeps_its_tokens_whatever_the_vocabulary(corpus, others, missing):
    vocabulary = [*BERT, *(token for token in TOKENS if token not in missing)]
    whole, cut = cut_to(vocabulary, [" ".join(corpus)])
    assert not set(UNUSED) & cut.get_vocab().keys()
    for word in corpus:
        tokens = whole.encode(word).tokens
        assert cut.encode(word).tokens == tokens or "[UNK]" in tokens
    letters = {token for token in vocabulary if len(token.removeprefix("##")) == 1}
    for word in others:
        if word[0] in letters and all(f"##{letter}" in letters for letter in word[1:]):
            assert "[UNK]" not in cut.encode(word).tokens


def test_mbert_s_vocabulary_on_the_bitext(shared_data):
    lines = []
    for language in ("th", "zh"):
        lines += (shared_data("bitext") / f"{language}-en.tsv").read_text("utf-8").split("\n")[:100]
    sentences = [sentence for line in lines for sentence in line.split("\t")[:2]]
    whole, cut = cut_to(shared_data("mbert-vocab").read_text("utf-8").split("\n")[:-1], sentences)
    assert 19_996 < cut.get_vocab_size() < 25_000 and cut.token_to_id("[PAD]") == 0
    assert [one.tokens for one in cut.encode_batch(sentences)] == [one.tokens for one in whole.encode_batch(sentences)]


def test_another_tokenizer_is_refused(tmp_path):
    TOKENIZERS["byte level"](tmp_path)
    with pytest.raises(InputError, match="here: its tokenizer is a BPE; only WordPiece and Unigram can be trimmed"):
        cut_files(read_files(tmp_path), list(range(900)), "here")


def compare(before, after, exported, sentences):
    """Tokens and hidden states are the same; transformers agrees on the export."""
    (old, old_tokens), (new, new_tokens) = map(checkpoint.load_encoder, (before, after))
    assert cli.main(["export-hf", str(after), str(exported)]) == 0
    theirs, their_tokens = AutoModel.from_pretrained(exported).eval(), AutoTokenizer.from_pretrained(exported)
    for sentence in sentences:
        encoded = [tokens.encode(sentence) for tokens in (old_tokens, new_tokens)]
        assert encoded[0].tokens == encoded[1].tokens
        assert their_tokens(sentence)["input_ids"] == encoded[1].ids
        with torch.no_grad():
            packed = [pack_sentences([torch.tensor(one.ids)]) for one in encoded]
            hidden = old(**packed[0])["hidden"], new(**packed[1])["hidden"]
            expected = theirs(torch.tensor([encoded[1].ids])).last_hidden_state[0]
        assert torch.equal(*hidden)
        assert torch.allclose(hidden[1], expected, atol=1e-5)


def check_weights(before, after):
    """Every row is that of its token, in the order of before; everything else is as it was."""
    old, new = checkpoint.read(before), checkpoint.read(after)
    was, is_now = (model.build_tokenizer("here").symbols for model in (old, new))
    at = [was.index(symbol) for symbol in is_now]
    assert at == sorted(at) and len(at) < len(was)
    assert WordPieceDictionary.load(str(after / "dict.txt")).symbols == is_now
    for name, weight in old.state.items():
        rows = weight[at] if name in ("encoder.embed_tokens.weight", "lm_head.bias") else weight
        assert torch.equal(new.state[name], rows), name
    return is_now


def test_a_bert_on_its_corpus(imported, tmp_path, capsys):
    bert, trimmed, corpus = imported(VOCABULARY), tmp_path / "trimmed", ["abc bca.", "abcd 東京x", "cab"]
    text = pack(tmp_path / "a.txt.xz", corpus)
    run(bert, trimmed, f"de={text}", "--held-out", f"fr={text}")
    kept = check_weights(bert, trimmed)
    letters = ["a", "b", "c", ".", "東", "京", "##a", "##b", "##c", "##d", "##x"]
    assert set(kept) == {*SPECIALS, *letters, "abc", "bca", "ca"}
    compare(bert, trimmed, tmp_path / "exported", corpus)
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = {name.strip(): [cell.strip() for cell in cells] for name, *cells in lines}
    assert rows["de"] == rows["held-out fr"] == ["3", "0", "10", "10", "10.000%", "10.000%", "100.000%"]
    assert (rows["before"][0], rows["after"][0]) == (str(len(VOCABULARY)), str(len(kept)))


def test_an_xlm_roberta_on_its_corpus(tmp_path):
    folder, whole, trimmed = (tmp_path / name for name in ("xlmr", "imported", "trimmed"))
    folder.mkdir()
    make_xlm_roberta(folder)
    assert cli.main(["import-hf", str(folder), str(whole)]) == 0
    corpus = [*(sentence[:40] for sentence in sample_sentences("test", 2)[:20]), "ab \u0308 ﬁ", "unseen Ω character"]
    run(folder, trimmed, f"xx={pack(tmp_path / 'a.txt.xz', corpus)}")
    kept = check_weights(whole, trimmed)
    assert kept[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and kept[-1] == "<mask>"
    compare(whole, trimmed, tmp_path / "exported", corpus)
    models = [json.loads((folder / "tokenizer.json").read_text())["model"] for folder in (whole, trimmed)]
    scores = [min(score for _, score in model["vocab"]) for model in models]
    assert scores[0] == scores[1]  # which decides the score of an unknown character


def test_counts_and_choices(imported, tmp_path, capsys):
    bert, text, keep = imported(VOCABULARY), tmp_path / "a.tsv", tmp_path / "keep"
    text.write_bytes(b"abc\tlongerest\nabc\tx\n\xff\tb\nca\tb\n")
    keep.write_text("##est\ncab\n")
    run(bert, tmp_path / "all", f"de-en={text}")
    run(bert, tmp_path / "twice", f"de-en={text}", "--min-count", "2", "--keep-file", keep)
    every, twice = check_weights(bert, tmp_path / "all"), check_weights(bert, tmp_path / "twice")
    assert {"abc", "ca", "longer", "##est"} <= set(every)
    assert "abc" in twice and "##est" in twice and "ca" in twice and "longer" not in twice
    rows = [line.replace("|", " ").split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert rows.count(["de", "3", "1"]) == rows.count(["en", "3", "1"]) == 2  # read, left out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["de=none.txt"], "none.txt: No such file"),
        (["de"], "de: expected LANGUAGES=FILE"),
        (["1=a.txt"], "1: expected a language code"),
        (["de=a.txt.7z"], "a.txt.7z: cannot read .7z"),
        (["de=a.txt", "--min-count", "99"], "de=a.txt: no token is used 99 times; give more text"),
        (["de=a.txt", "--keep-file", "none"], "none: No such file"),
        (["de=a.txt", "--keep-file", "latin-1"], "latin-1:1: not UTF-8"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(imported, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("abc\n")
    (tmp_path / "latin-1").write_bytes(b"caf\xe9\n")
    run(imported(VOCABULARY), "trimmed", *arguments, status=1)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "latin-1", "imported"}
