"""What dropout on attention costs on the CPU: ours, torch's, and none, forward and backward.

    python benchmarks/attention_dropout.py --threads 1

Torch's scaled_dot_product_attention has a fast path on the CPU, but none with dropout. The sides take turns; seconds
are the median of the processor's.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ppa_fairseq.modules.attention import attend
from ppa_fairseq.modules.host_memory import keep_heap_small
from ppa_fairseq.utils.markdown import markdown_table

SIDES = {
    "no dropout": lambda query, key, value, p: attend(query, key, value, None, 0.0),
    "ppa_fairseq": lambda query, key, value, p: attend(query, key, value, None, p),
    "torch's with dropout": lambda query, key, value, p: F.scaled_dot_product_attention(query, key, value, dropout_p=p),
}


def step_seconds(side, inputs: list[torch.Tensor], p: float) -> float:
    start = time.process_time()
    torch.autograd.grad(side(*inputs, p).sum(), inputs)
    return time.process_time() - start


def measure(length: int, tokens: int, heads: int, dim: int, p: float, rounds: int) -> dict[str, float]:
    """Seconds of each side for so many tokens, in sentences of *length*."""
    generator = torch.Generator().manual_seed(1)
    shape = (tokens // length, heads, length, dim)
    inputs = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]
    seconds = {name: [] for name in SIDES}
    for _ in range(1 + rounds):  # the first warms up
        for name, side in SIDES.items():
            seconds[name].append(step_seconds(side, inputs, p))
    return {name: float(np.median(times[1:])) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 64, 128], help="WordPieces of a sequence")
    parser.add_argument("--tokens", type=int, default=2048, help="of all sequences together")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--dim", type=int, default=32, help="of a head")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_heap_small()  # as training does
    if any(args.tokens % length for length in args.lengths):
        parser.error("--tokens: give a multiple of every length")
    rows = [["sequences of", *(f"{name}, ms" for name in SIDES), "ours costs", "torch's costs"]]
    for length in tqdm(args.lengths):
        none, ours, theirs = measure(length, args.tokens, args.heads, args.dim, args.dropout, args.rounds).values()
        times = [f"{1e3 * seconds:.1f}" for seconds in (none, ours, theirs)]
        rows.append([f"{length}", *times, f"{ours / none:.2f}×", f"{theirs / none:.2f}×"])
    print(f"{args.tokens:,} tokens, {args.heads} heads of {args.dim}, dropout {args.dropout}, {args.threads} threads, "
          "fp32, processor time\n")  # fmt: skip
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
