"""Prepare data for fairseq-train, and measure and export what it trained."""

import argparse
import ast
import importlib.util
import sys

from ppa_fairseq.commands._output import safe_stdout
from ppa_fairseq.commands._signals import Stopped, stop_in_order
from ppa_fairseq.utils.errors import one_line

GROUPS = {
    "encoders": ("import-hf", "fit-head", "trim-vocab", "export-hf", "export-onnx"),
    "data": (
        *("mine", "score-bitext", "prepare-bitext", "prepare-xnli", "prepare-qa"),
        *("prepare-classification", "prepare-tagging", "binarize"),
    ),
    "measurements": (
        *("retrieve", "probe", "word-align", "perplexity", "evaluate-xnli", "evaluate-qa"),
        *("evaluate-classification", "evaluate-tagging", "embed"),
    ),
}
COMMANDS = {name: f"ppa_fairseq.commands.{name.replace('-', '_')}" for names in GROUPS.values() for name in names}


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 bad input, 2 bad usage, 128 + a signal's number)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="ppa",
        usage="ppa [-h] COMMAND ...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(prog="ppa", dest="command", required=True, help=argparse.SUPPRESS)
    if argv and argv[0] in COMMANDS:  # imports this command alone
        module = importlib.import_module(COMMANDS[argv[0]])
        command = commands.add_parser(
            argv[0], description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    else:
        parser.epilog = "\n".join(map(_describe, GROUPS)) + "\n`ppa COMMAND --help` describes its flags."
        for name in COMMANDS:
            commands.add_parser(name)
    args = parser.parse_args(argv)
    try:
        with stop_in_order(), safe_stdout():
            args.run(args)
    except Stopped as stopped:
        print(f"ppa {args.command}: stopped by {stopped.name}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print(f"ppa {args.command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        message = one_line(error)
        if message is None:
            raise
        print(f"ppa {args.command}: error: {message}", file=sys.stderr)
        return 1
    return 0


def _describe(group: str) -> str:
    """List the commands of *group* with the first lines of their docstrings; reads them without an import."""
    lines = [f"{group}:"]
    for name in GROUPS[group]:
        source = importlib.util.find_spec(COMMANDS[name]).loader.get_source(COMMANDS[name])
        lines.append(f"  {name:<23} {ast.get_docstring(ast.parse(source)).splitlines()[0]}")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
