"""The cross-entropy over the vocabulary: logits, or torch's linear_cross_entropy (torch >= 2.13), which chunks them.

    python benchmarks/vocabulary_head.py --vocabulary 119547 --dim 768 --masked 120

Forward and backward, at the masked places of one batch. Memory is the largest resident size above the weights, each way
in a process of its own (Linux).
"""

import argparse
import multiprocessing
import time

import torch
import torch.nn.functional as F
from alignment import STATUS, status

from ppa_fairseq.modules.host_memory import return_freed
from ppa_fairseq.utils.markdown import markdown_table

WAYS = ("logits", "linear_cross_entropy")


def loss_of(way: str, hidden, weight, bias, target) -> torch.Tensor:
    if way == "logits":
        return F.cross_entropy(F.linear(hidden, weight, bias), target, reduction="sum")
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(hidden, weight, target, linear_bias=bias, reduction="sum", options=options)


def measure(way: str, vocabulary: int, dim: int, masked: int, threads: int, pipe) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    weight, bias = torch.randn(vocabulary, dim).mul_(0.02).requires_grad_(), torch.zeros(vocabulary, requires_grad=True)
    hidden, target = torch.randn(masked, dim, requires_grad=True), torch.randint(vocabulary, (masked,))
    seconds = []
    for number in range(3):
        weight.grad = bias.grad = hidden.grad = None
        return_freed()
        if number == 1:
            before = status("VmRSS")
            STATUS.with_name("clear_refs").write_text("5")
        start = time.process_time()
        loss = loss_of(way, hidden, weight, bias, target)
        loss.backward()
        seconds.append(time.process_time() - start)
    pipe.send((min(seconds[1:]), status("VmHWM") - before, loss.item(), hidden.grad.norm().item()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=119_547)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--masked", type=int, default=120)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    rows, results = [["", "seconds of the processor", "memory"]], []
    for way in WAYS:
        ours, theirs = multiprocessing.Pipe()
        arguments = (way, args.vocabulary, args.dim, args.masked, args.threads, theirs)
        multiprocessing.get_context("spawn").Process(target=measure, args=arguments).start()
        seconds, memory, *result = ours.recv()
        results.append(torch.tensor(result))
        rows.append([way, f"{seconds:.2f}", f"{memory:,.0f} MiB"])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    print(f"{args.masked} places, {args.vocabulary:,} WordPieces, {args.dim} wide, {args.threads} threads, fp32\n")
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
