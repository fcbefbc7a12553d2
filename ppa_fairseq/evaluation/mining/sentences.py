"""The different sentences of a corpus on the disk, to be read in any order: memory does not grow with them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np

from ppa_fairseq.data.bitext.filters import UNSAFE, SeenPairs
from ppa_fairseq.data.bitext.row import on_one_line
from ppa_fairseq.data.text_files import MAX_LINE, LineReader
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import atomic_path

HEAD = 1000  # lines that decide whether lines begin with an id
BATCH = 2**14


class Sentences:
    """Sentences, each with an id or an empty one, in two files: `{path}.txt` and `{path}.ends`, where each ends."""

    def __init__(self, path: Path):
        self.ends = np.memmap(f"{path}.ends", dtype="<u8", mode="r") if Path(f"{path}.ends").stat().st_size else []
        self.file = open(f"{path}.txt", "rb")  # noqa: SIM115 (open as long as this object)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, place: int) -> tuple[str, str]:
        """Id and text."""
        return self.between(place, place + 1)[0]

    def between(self, start: int, stop: int) -> list[tuple[str, str]]:
        """Ids and texts of the sentences from *start* to before *stop*."""
        ends = [int(end) for end in self.ends[start:stop]]
        begin = int(self.ends[start - 1]) if start else 0
        self.file.seek(begin)
        content = self.file.read(ends[-1] - begin)
        lines = (content[left - begin : right - begin].decode() for left, right in pairwise([begin, *ends]))
        return [(own_id, text) for own_id, _, text in (line.partition("\t") for line in lines)]


def write_sentences(path: Path, sentences: Iterable[tuple[str, str]]) -> np.ndarray:
    """Write ids and texts for `Sentences`, of equal texts the first alone; return the hashes of all texts, (N,)."""
    seen, hashes, position = SeenPairs(), [], 0
    sentences = iter(sentences)
    with atomic_path(f"{path}.txt") as text_path, atomic_path(f"{path}.ends") as ends_path:
        with open(text_path, "wb") as file, open(ends_path, "wb") as ends:
            while batch := list(islice(sentences, BATCH)):
                hashes.append(np.array([text_hash(text) for _, text in batch], dtype=np.uint64))
                lines = [f"{batch[i][0]}\t{batch[i][1]}".encode() for i in np.flatnonzero(seen.add(hashes[-1]))]
                stops = position + np.cumsum(list(map(len, lines)), dtype=np.uint64)
                file.write(b"".join(lines))
                ends.write(stops.astype("<u8").tobytes())
                position = int(stops[-1]) if len(stops) else position
    return np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)


def places_of(hashes: np.ndarray) -> np.ndarray:
    """Where `Sentences` holds the text of each of these hashes, as `write_sentences` returns them, (N,)."""
    _, first, places = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[places]


def text_hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def read_sentences(path: Path, dropped: Counter | None = None) -> Iterator[tuple[str, str]]:
    """Id and text of each line: a sentence, or as BUCC has it, an id, a tab and a sentence, if all first lines do.

    Counts in *dropped* the lines that cannot be used. Raises InputError if the file is missing or damaged, or a line
    lacks the id that others have.
    """
    lines = iter(LineReader(path))
    head = list(islice(lines, HEAD))
    has_ids = bool(head) and all(len(cells := line.split(b"\t")) == 2 and b" " not in cells[0] for line in head if line)
    dropped = Counter() if dropped is None else dropped
    for number, line in enumerate(chain(head, lines), 1):
        if len(line) > MAX_LINE:
            dropped["long"] += 1
            continue
        try:
            own_id, tab, text = line.decode().partition("\t") if has_ids else ("", "\t", line.decode())
        except UnicodeDecodeError:
            dropped["encoding"] += 1
            continue
        if has_ids and line and not tab:
            raise InputError(f"{path}:{number}: no id, a tab and a sentence, as the lines before; correct it")
        text = on_one_line(text.strip())
        if reason := "empty" if not text else "control" if UNSAFE.search(text) else None:
            dropped[reason] += 1
        else:
            yield own_id, text
