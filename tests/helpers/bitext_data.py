"""Raw bitext, and a tokenizer with one WordPiece a letter."""

import random
import string

# One WordPiece a letter, so that a text's length in WordPieces is its number of letters.
LETTERS = string.ascii_letters + string.digits + ".,"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
TOKENIZER = {"vocab.txt": "\n".join(VOCABULARY) + "\n", "tokenizer_config.json": '{"do_lower_case": false}'}


def words(seed, count):
    """*count* sentences of 10 to 40 letters in words."""
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 8))) for _ in range(5)) for _ in range(count)]


def write_tsv(path, *columns):
    path.write_text("".join("\t".join(row) + "\n" for row in zip(*columns, strict=True)))
    return path


def lines_of(folder, name="*"):
    return {path.name: path.read_text().splitlines() for path in sorted(folder.glob(f"[!.]*.{name}.*"))}


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
