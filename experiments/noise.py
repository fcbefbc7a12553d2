"""How well do the scores of `ppa score-bitext` tell translations from shuffled pairs?

    python experiments/noise.py --model before=imported/mbert --model after=checkpoint_best.pt bitext/de-en.tsv ...

Takes the first 1,000 pairs of each TSV, shuffles one side of 30 % of them among themselves, scores all, and prints the
area under the ROC curve of cosine and margin (100: all shuffled pairs score below all others; 50: chance).
"""

import argparse
import random
import tempfile
from itertools import islice
from pathlib import Path

from sklearn.metrics import roc_auc_score

from ppa_fairseq.commands import main as cli
from ppa_fairseq.commands.arguments import add_models_argument
from ppa_fairseq.utils.markdown import markdown_table


def shuffle_some(pairs: list[tuple[str, str]], share: float, seed: int) -> tuple[list[tuple[str, str]], list[bool]]:
    """Move the second sides of a share of the pairs on by one in a random order; return which are as they were."""
    chosen = random.Random(seed).sample(range(len(pairs)), round(share * len(pairs)))
    seconds = [second for _, second in pairs]
    for place, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        seconds[place] = pairs[other][1]
    is_kept = [second == pair[1] for second, pair in zip(seconds, pairs, strict=True)]
    return [(first, second) for (first, _), second in zip(pairs, seconds, strict=True)], is_kept


def read_tsv(path: Path, count: int | None = None) -> list[list[str]]:
    with path.open(encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in islice(file, count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bitext", type=Path, nargs="+", help="xx-en.tsv files")
    add_models_argument(parser, "an encoder")
    parser.add_argument("--pairs", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.3, help="of shuffled pairs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lines = [["pair", *(f"{name} {score}" for name, _ in args.models for score in ("cosine", "margin"))]]
    with tempfile.TemporaryDirectory() as scratch:
        kept = {}
        for path in args.bitext:
            distinct = list(dict.fromkeys((row[0], row[1]) for row in read_tsv(path, args.pairs)))
            pairs, is_kept = shuffle_some(distinct, args.share, args.seed)
            kept[path.stem] = dict(zip(pairs, is_kept, strict=True))
            text = "".join(f"{first}\t{second}\n" for first, second in pairs)
            (Path(scratch) / f"{path.stem}.tsv").write_text(text, encoding="utf-8")
        areas = {name: [] for name in kept}
        for number, (_, model) in enumerate(args.models):
            out = Path(scratch) / f"scored{number}"
            texts = [f"{name}={scratch}/{name}.tsv" for name in kept]
            if cli.main(["score-bitext", *texts, "--model", str(model), "--output", str(out), "--columns", "1,2"]):
                raise SystemExit(1)
            for name, known in kept.items():
                rows = read_tsv(out / f"{name}.tsv")
                labels = [known[row[0], row[1]] for row in rows]
                areas[name] += [100 * roc_auc_score(labels, [float(row[place]) for row in rows]) for place in (2, 3)]
    lines += [[name, *(f"{area:.1f}" for area in found)] for name, found in areas.items()]
    print(markdown_table(lines))


if __name__ == "__main__":
    main()
