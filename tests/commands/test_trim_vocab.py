"""A trimmed model does on the corpus what the whole one does, bit for bit; and any text can still be tokenized."""

import json
import lzma

import pytest
import torch
from helpers.hf_folders import TOKENIZERS, make_xlm_roberta, sample_sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.tokenizer import ModelTokenizer, read_files
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.dictionary import WordPieceDictionary
from ppa_fairseq.data.trimming.tokenizer_files import cut_files
from ppa_fairseq.data.trimming.tokens import TokenCounter, needed_by_any_text
from ppa_fairseq.modules.packing import pack as pack_sentences
from ppa_fairseq.utils.errors import InputError

UNUSED = [f"[unused{i}]" for i in range(1, 100)]
BERT = ["[PAD]", *UNUSED, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # as in mBERT: [CLS] is 101
TOKENS = ["a", "b", "c", "##a", "##b", "##c", "ab", "abc", "##bc", "##cab", "ca", "##ab", "bca", "##d", "##cd", "."]


def run(*arguments, status=0):
    assert cli.main(["trim-vocab", *map(str, arguments), "--workers", "1"]) == status


def pack(path, lines):
    path.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


@pytest.fixture
def bert(imported):
    return imported((*BERT, *TOKENS, "東", "京", "##x", "longer", "##est"))


WORDS = st.text("abcd", min_size=1, max_size=9)
CASED = '{"do_lower_case": false}'


@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=5), st.sets(st.sampled_from(TOKENS)))
@example(["abcd", "ab", "acd"], [], {"##d"})  # were `abc` to go, `ab ##cd` would be found
@settings(deadline=None, max_examples=100)
def test_a_corpus_keeps_its_tokens_whatever_the_vocabulary(corpus, others, missing):
    """Words that become [UNK], too: their way to it must not be left open to another token."""
    vocabulary = [*BERT, *(token for token in TOKENS if token not in missing)]
    texts = {"vocab.txt": "".join(f"{token}\n" for token in vocabulary), "tokenizer_config.json": CASED}
    whole = ModelTokenizer(texts, "here")
    used, needed = TokenCounter(texts, "here").count([" ".join(corpus)]), needed_by_any_text(whole)
    kept = [index for index, token in enumerate(vocabulary) if token in used or index in needed]
    cut = ModelTokenizer(cut_files(texts, kept, "here"), "here").backend
    whole = whole.backend
    assert cut.get_vocab_size() == len(kept)
    assert not set(UNUSED) & cut.get_vocab().keys()
    for word in corpus:
        assert cut.encode(word).tokens == whole.encode(word).tokens
    letters = {token for token in vocabulary if len(token.removeprefix("##")) == 1}
    for word in others:
        if word[0] in letters and all(f"##{letter}" in letters for letter in word[1:]):
            assert "[UNK]" not in cut.encode(word).tokens


@pytest.mark.parametrize("kind", ["byte fallback", "byte level"])
def test_another_tokenizer_is_refused(kind, tmp_path):
    TOKENIZERS[kind](tmp_path)
    with pytest.raises(InputError, match="here: its tokenizer is a BPE; only WordPiece and Unigram can be trimmed"):
        cut_files(read_files(tmp_path), list(range(900)), "here")


def compare(before, after, exported, sentences):
    """Pieces, hidden states and MLM logits are the same; transformers agrees on the export."""
    (old, old_tokens), (new, new_tokens) = map(checkpoint.load_encoder, (before, after))
    assert len(new_tokens.get_vocab()) < len(old_tokens.get_vocab())
    assert cli.main(["export-hf", str(after), str(exported)]) == 0
    theirs, their_tokens = AutoModel.from_pretrained(exported).eval(), AutoTokenizer.from_pretrained(exported)
    for sentence in sentences:
        ids = [tokens.encode(sentence).ids for tokens in (old_tokens, new_tokens)]
        tokens = [list(map(t.id_to_token, row)) for t, row in zip((old_tokens, new_tokens), ids, strict=True)]
        assert tokens[0] == tokens[1]
        assert their_tokens(sentence)["input_ids"] == ids[1]
        with torch.no_grad():
            packed = [pack_sentences([torch.tensor(row)]) for row in ids]
            hidden = old(**packed[0])["hidden"], new(**packed[1])["hidden"]
            expected = theirs(torch.tensor([ids[1]])).last_hidden_state[0]
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


def test_a_bert_on_its_corpus(bert, tmp_path, capsys):
    corpus = ["abc bca.", "abcd 東京x", "cab"]
    text = pack(tmp_path / "a.txt.xz", corpus)
    run(bert, tmp_path / "trimmed", f"de={text}", "--held-out", f"fr={text}")
    kept = check_weights(bert, tmp_path / "trimmed")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = ["a", "b", "c", ".", "東", "京", "##a", "##b", "##c", "##d", "##x"]
    assert set(kept) == {*specials, *letters, "abc", "bca", "ca"}
    compare(bert, tmp_path / "trimmed", tmp_path / "exported", corpus)
    out = capsys.readouterr().out
    rows = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in out.splitlines()
            if row.startswith("|")}  # fmt: skip
    assert rows["de"] == rows["held-out fr"] == ["3", "10", "100.000%", "10", "10.000%", "10.000%", "100.000%"]
    assert rows["before"][0] == str(len(BERT) + len(TOKENS) + 5) and rows["after"][0] == str(len(kept))


def test_an_exported_masked_lm_gives_the_same_logits(bert, tmp_path):
    text = pack(tmp_path / "a.txt.xz", ["abc bca ab", "cab"])
    run(bert, tmp_path / "trimmed", f"de={text}")
    for name in (bert, tmp_path / "trimmed"):
        assert cli.main(["export-hf", str(name), str(tmp_path / f"{name.name}-hf")]) == 0
    models = [tmp_path / f"{name}-hf" for name in (bert.name, "trimmed")]
    logits, vocabularies = [], []
    for path in models:
        tokens = AutoTokenizer.from_pretrained(path)
        vocabularies.append(tokens.get_vocab())
        with torch.no_grad():
            model = AutoModelForMaskedLM.from_pretrained(path).eval()
            logits.append(model(**tokens("abc [MASK] cab", return_tensors="pt")).logits[0])
    for token, index in vocabularies[1].items():
        assert torch.allclose(logits[1][:, index], logits[0][:, vocabularies[0][token]], atol=1e-6), token


def test_an_xlm_roberta_on_its_corpus(tmp_path):
    (tmp_path / "xlmr").mkdir()
    make_xlm_roberta(tmp_path / "xlmr")
    assert cli.main(["import-hf", str(tmp_path / "xlmr"), str(tmp_path / "imported")]) == 0
    corpus = [*(sentence[:40] for sentence in sample_sentences("test", 2)[:20]), "ab \u0308 ﬁ", "unseen Ω character"]
    run(tmp_path / "xlmr", tmp_path / "trimmed", f"xx={pack(tmp_path / 'a.txt.xz', corpus)}")
    kept = check_weights(tmp_path / "imported", tmp_path / "trimmed")
    assert kept[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and kept[-1] == "<mask>"
    compare(tmp_path / "imported", tmp_path / "trimmed", tmp_path / "exported", corpus)
    scores = [
        min(score for _, score in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
        for folder in (tmp_path / "imported", tmp_path / "trimmed")
    ]
    assert scores[0] == scores[1]  # from which an unknown character's is reckoned


def test_counts_and_choices(bert, tmp_path, capsys):
    (tmp_path / "a.tsv").write_bytes(b"abc\tlongerest\nabc\tx\n\xff\tb\nca\tb\n")
    (tmp_path / "keep").write_text("##est\ncab\n")
    run(bert, tmp_path / "all", f"de-en={tmp_path / 'a.tsv'}")
    run(bert, tmp_path / "twice", f"de-en={tmp_path / 'a.tsv'}", "--min-count", "2", "--keep-file", tmp_path / "keep")
    every, twice = check_weights(bert, tmp_path / "all"), check_weights(bert, tmp_path / "twice")
    assert {"abc", "ca", "longer", "##est"} <= set(every)
    assert "abc" in twice and "##est" in twice and "ca" in twice and "longer" not in twice
    out = capsys.readouterr().out
    assert "de: 1 lines left out" in out and "en: 1 lines left out" in out


def test_mbert_s_vocabulary_on_the_bitext(shared_data, tmp_path, imported):
    symbols = shared_data("mbert-vocab").read_text("utf-8").split("\n")[:-1]
    folder = imported(tuple(symbols), dim=2, heads=1, ffn_dim=2)
    pairs = []
    for language in ("th", "zh"):
        lines = (shared_data("bitext") / f"{language}-en.tsv").read_text("utf-8").split("\n")[:100]
        (tmp_path / f"{language}.tsv").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        pairs.append(f"en-{language}={tmp_path / language}.tsv")
    run(folder, tmp_path / "trimmed", *pairs)
    _, old = checkpoint.load_encoder(folder)
    _, new = checkpoint.load_encoder(tmp_path / "trimmed")
    assert 19_996 < new.get_vocab_size() < 25_000
    assert new.token_to_id("[PAD]") == 0
    checked = 0
    for path in tmp_path.glob("*.tsv"):
        for line in path.read_text("utf-8").split("\n")[:-1]:
            for sentence in line.split("\t")[:2]:
                assert new.encode(sentence).tokens == old.encode(sentence).tokens
                checked += 1
    assert checked == 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["de=none.txt"], "none.txt: no such file; de needs a text file"),
        (["de"], "de: expected LANGUAGES=FILE"),
        (["1=a.txt"], "1: expected a language code"),
        (["de=a.txt.bz2"], "a.txt.bz2: cannot read .bz2"),
        (["de=empty.txt"], "de=empty.txt: no token is used 1 times; give more text"),
        (["de=a.txt", "--min-count", "99"], "de=a.txt: no token is used 99 times; give more text"),
        (["de=a.txt", "--keep-file", "none"], "none"),
    ],
)
def test_bad_input_is_told_and_nothing_written(bert, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("abc\n")
    (tmp_path / "empty.txt").touch()
    run(bert, "trimmed", *arguments, status=1)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "empty.txt", "imported"}
