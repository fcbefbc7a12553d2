"""Optimizer updates that some epochs over a data-bin folder take, for --max-update and --warmup-updates.

    python scripts/count_updates.py data-bin/opus --pairs-per-update 128 --epochs 10
"""

import argparse
import math

from fairseq import utils

from ppa_fairseq.data.bitext.corpora import find_pairs, load_corpora

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", help="data-bin folder; several, separated by colons, are shards: one an epoch")
parser.add_argument("--pairs-per-update", type=int, required=True, help="batch size x --update-freq x ranks")
parser.add_argument("--epochs", type=int, required=True, help="passes over all shards (fairseq counts each as one)")
args = parser.parse_args()

shards = [
    sum(len(corpus.source) for corpus in load_corpora(folder, "train", find_pairs(folder, "train"), all_needed=True))
    for folder in utils.split_paths(args.data)
]
print(args.epochs * sum(math.ceil(count / args.pairs_per_update) for count in shards))
