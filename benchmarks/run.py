"""The benchmarks behind docs/performance.md, one after another: one thread, the quickstart's encoder.

    python benchmarks/run.py                        # after scripts/quickstart.sh; about an hour
    python benchmarks/run.py alignment vocabulary   # some of them
    taskset -c 0 python benchmarks/run.py --processor-time      # beside other work

mBERT's shape is left out where its vocabulary is not at hand. The curves of growing work have commands of their own:
scaling*.py.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """Name -> command line."""
    model = ["--model", str(args.model)]
    lines = {
        "alignment": ["alignment.py", "--tokenizer", str(args.model), "--shape", "standin"],
        "alignment-without-dropout": [
            "alignment.py", "--tokenizer", str(args.model), "--dropout", "0", "--attention-dropout", "0"
        ],
        "alignment-mbert": [
            "alignment.py", "--tokenizer", str(args.mbert), "--shape", "mbert", "--rounds", "2", "--batch-size", "64",
            "--one-by-one",
        ],
        "vocabulary": ["vocabulary_head.py"],
        "attention-dropout": ["attention_dropout.py"],
        "loop": ["training_loop.py", "--data", str(args.data), "--pretrained", str(args.model)],
        "finetuning-xnli": ["finetuning.py", "--task", "xnli", "--rounds", "10"],
        "finetuning-mlqa": ["finetuning.py", "--task", "mlqa", "--rounds", "3", "--batch-size", "16"],
        "prediction": ["prediction.py", *model],
        "classification": ["classification.py", *model],
    }  # fmt: skip
    if args.processor_time:  # the others count it always, or compare sides that take turns
        for name in lines:
            if name == "loop" or name.startswith("alignment"):
                lines[name].append("--processor-time")
    if args.mbert is None:
        del lines["alignment-mbert"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which (default: all)")
    parser.add_argument("--model", type=Path, default=Path("runs/quickstart/imported"))
    parser.add_argument("--data", type=Path, default=Path("data-bin/quickstart"), help="of `ppa binarize`")
    parser.add_argument("--mbert", type=Path, help="folder with vocab.txt and tokenizer_config.json of mBERT")
    parser.add_argument("--processor-time", action="store_true", help="count it, not the wall's, where it matters")
    args = parser.parse_args()
    if args.mbert is None and "alignment-mbert" in args.names:
        parser.error("alignment-mbert needs --mbert")
    known = commands(args)
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if args.mbert is None and not args.names:
        print("alignment-mbert is left out: it needs --mbert")
    for name in args.names or known:
        script, *flags = known[name]
        print(f"\n{name}: python benchmarks/{script} {' '.join(flags)} --threads 1\n", flush=True)
        subprocess.run([sys.executable, str(HERE / script), *flags, "--threads", "1"], check=True)


if __name__ == "__main__":
    main()
