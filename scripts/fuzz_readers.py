"""Feed every reader of a user's files with broken ones: no crash, no hang, nothing lost without being counted.

    python scripts/fuzz_readers.py --reader nli --minutes 10                      # hypothesis: sound files, edited
    python scripts/fuzz_readers.py --reader nli --minutes 10 --engine atheris     # by coverage (pip install atheris)

What must hold is in reader_checks.py. Prints how many files were read and how many refused. At the first finding it
stops with its traceback and writes the file to --findings; over 30 s for one file is a finding, too.
"""

import argparse
import contextlib
import faulthandler
import importlib
import io
import json
import logging
import os
import re
import sys
import time
from collections import Counter
from copy import deepcopy
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

NAMES = ("bitext", "nli", "squad", "predictions", "dictionary", "tokenizer", "config", "model",
         "lines", "words", "gold", "checkpoint", "indexed")  # fmt: skip
HANG = 30  # seconds
# What breaks readers: line ends, odd spaces, control characters, other encodings, halves of characters, specials.
FRAGMENTS = [
    *(b"", b"\n", b"\r", b"\r\n", b"\t", b"\0", b" ", b"\x1a", b"\x1b[31m", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9"),
    *(text.encode() for text in ("\x85", "\u2028", "\xa0", "\u3000", "\u200b", "\u0301", "\ufffd", "\U0001f600")),
    *(b"\xed\xa0\x80", b"[SEP]", b"[UNK]", b"<s>", b"##", b"[unused1]", b"a" * 40_000, b"[" * 3000, b'{"a":' * 3000),
    *(b'"', b"'", b"\\", b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b",", b":", b"-1", b"1e999", b"9" * 5000),
]
VALUES = [
    *(None, True, False, 0, 1, -1, 10**30, 0.5, float("nan"), float("inf"), -0.0, [], {}, [[]], [None], {"a": {}}),
    *("", " ", "\n", "x", "-", "\ud800", "\x00", "en", "a\tb", "\u2028", "x" * 40_000, ["x"], {"0": "x"}),
]


def edited(rng: Random, content: bytes) -> bytes:
    """*content* with some slices taken out, doubled or replaced, and some lines moved."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if rng.random() < 0.3:
            lines = content.split(b"\n")
            line = rng.choice([lines.pop, lines.__getitem__])(rng.randrange(len(lines)))
            lines.insert(rng.randint(0, len(lines)), line)
            content = b"\n".join(lines)
            continue
        start = rng.randint(0, len(content))
        end = min(len(content), start + rng.choice([0, 0, 1, 3, 20, len(content)]))
        new = rng.choice([*FRAGMENTS, 2 * content[start:end], bytes([rng.randrange(256)])])
        content = content[:start] + new + content[end:]
    return content


def edited_json(rng: Random, content: bytes) -> bytes:
    """*content*, JSON or lines of it, with some values replaced by odd ones, or a key that stands twice."""
    lines = []
    for line in content.decode(errors="replace").split("\n"):
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError):
            lines.append(line)
            continue
        for _ in range(rng.randint(0, 3)):
            if inner := list(holders(tree)):
                holder = rng.choice(inner)
                key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
                if isinstance(holder, list) and rng.random() < 0.5:
                    holder.append(deepcopy(holder[key]))
                elif rng.random() < 0.2:
                    del holder[key]
                else:
                    holder[key] = deepcopy(rng.choice(VALUES))
        line = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
        if "{" in line and (keys := re.findall(r'"\w+"(?=:)', line)) and rng.random() < 0.2:
            place = rng.choice([found.end() for found in re.finditer(r"\{", line)])
            line = f"{line[:place]}{rng.choice(keys)}: [], {line[place:]}"
        lines.append(line)
    return "\n".join(lines).encode(errors="surrogatepass")


def holders(tree: object):
    """All objects and lists in *tree* that have something in them."""
    if isinstance(tree, (dict, list)) and tree:
        yield tree
        for inner in list(tree.values() if isinstance(tree, dict) else tree):
            yield from holders(inner)


def edit(rng: Random, content: bytes) -> bytes:
    """Some other content, of which *content* is the model."""
    return (edited_json if b'{"' in content[:20] and rng.random() < 0.5 else edited)(rng, content)


class Fuzzer:
    """Counts what becomes of files, and keeps the one that something went wrong with."""

    def __init__(self, name: str, minutes: float, findings: Path, engine: str):
        self.reader = importlib.import_module("reader_checks").READERS[name]
        self.seeds = self.reader.seeds()
        self.name, self.findings, self.engine = name, findings, engine
        self.outcomes = Counter()
        self.start = time.monotonic()
        self.end = self.start + 60 * minutes

    def check(self, name: str, content: bytes) -> None:
        faulthandler.dump_traceback_later(HANG, exit=True)
        self.keep("hang", name, content)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                self.outcomes[self.reader.check(name, content)] += 1
        except BaseException:
            self.keep("finding", name, content)
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()

    def keep(self, kind: str, name: str, content: bytes) -> None:
        (self.findings / f"{self.name}.{kind}.{name}").write_bytes(content)

    def report(self) -> str:
        for path in self.findings.glob(f"{self.name}.hang.*"):
            path.unlink()
        read, refused = self.outcomes[True], self.outcomes[False]
        seconds = f"{time.monotonic() - self.start:.0f} s ({time.process_time():.0f} s of processor time)"
        return (
            f"{self.name}, {self.engine}: {read + refused:,} files in {seconds}: {read:,} read, {refused:,} refused, "
            "no finding"
        )


def run_hypothesis(fuzzer: Fuzzer, seed: int) -> None:
    from hypothesis import seed as seeded

    while time.monotonic() < fuzzer.end:

        @seeded(seed)
        @settings(max_examples=500, deadline=None, database=None, phases=[Phase.generate], verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(st.sampled_from(fuzzer.seeds), st.randoms(use_true_random=False))
        def one_round(sound: tuple[str, bytes], rng: Random) -> None:
            fuzzer.check(sound[0], edit(rng, sound[1]))

        one_round()
        seed += 1
    print(fuzzer.report())


def run_atheris(fuzzer: Fuzzer, corpus: Path) -> None:
    import atheris

    corpus.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for name, _ in fuzzer.seeds))
    for number, (name, content) in enumerate(fuzzer.seeds):
        (corpus / f"seed{number}").write_bytes(bytes([names.index(name)]) + content)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Half of the time libFuzzer's own mutation, else ours."""
        rng = Random(seed)
        new = atheris.Mutate(data, max_size) if rng.random() < 0.5 else data[:1] + edit(rng, data[1:])
        return new[:max_size]

    def one_file(data: bytes) -> None:
        if time.monotonic() > fuzzer.end:
            print(fuzzer.report(), flush=True)
            os._exit(0)  # libFuzzer would end it with no word
        if data:
            fuzzer.check(names[data[0] % len(names)], data[1:])

    flags = ["-max_len=300000", "-len_control=0", "-rss_limit_mb=4096", "-verbosity=0"]
    flags.append(f"-artifact_prefix={fuzzer.findings}/")
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one_file, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", required=True, choices=NAMES)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--seed", type=int, default=0, help="of hypothesis")
    parser.add_argument("--findings", type=Path, default=Path("fuzz"), help="folder for what went wrong")
    args = parser.parse_args()
    args.findings.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    if args.engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["ppa_fairseq", "json"]):
            importlib.import_module("reader_checks")
    fuzzer = Fuzzer(args.reader, args.minutes, args.findings, args.engine)
    if args.engine == "atheris":
        run_atheris(fuzzer, args.findings / f"{args.reader}.corpus")
    else:
        run_hypothesis(fuzzer, args.seed)


if __name__ == "__main__":
    main()
