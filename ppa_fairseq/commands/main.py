"""The `ppa` command: what stands before and after `fairseq-train`."""

import argparse
import ast
import importlib.util
import sys

from ppa_fairseq.commands import _signals as signals
from ppa_fairseq.commands._output import OutputLost, printing
from ppa_fairseq.utils.errors import InputError, of_system, out_of_space

COMMANDS = {
    "import-hf": "ppa_fairseq.commands.import_hf",
    "export-hf": "ppa_fairseq.commands.export_hf",
    "trim-vocab": "ppa_fairseq.commands.trim_vocab",
    "prepare-bitext": "ppa_fairseq.commands.prepare_bitext",
    "prepare-qa": "ppa_fairseq.commands.prepare_qa",
    "prepare-xnli": "ppa_fairseq.commands.prepare_xnli",
    "binarize": "ppa_fairseq.commands.binarize",
    "retrieve": "ppa_fairseq.commands.retrieve",
    "embed": "ppa_fairseq.commands.embed",
    "word-align": "ppa_fairseq.commands.word_align",
    "perplexity": "ppa_fairseq.commands.perplexity",
    "evaluate-xnli": "ppa_fairseq.commands.evaluate_xnli",
    "evaluate-qa": "ppa_fairseq.commands.evaluate_qa",
    "launch": "ppa_fairseq.commands.launch",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 bad input, 2 bad usage, 128 + a signal's number)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="ppa", description=__doc__, epilog="`ppa COMMAND --help` shows its flags.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = argv[0] if argv and argv[0] in COMMANDS else None
    if wanted:
        module = importlib.import_module(COMMANDS[wanted])
        command = commands.add_parser(
            wanted, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    else:
        # Read, not imported: fairseq alone takes seconds.
        for name, module_name in COMMANDS.items():
            source = importlib.util.find_spec(module_name).loader.get_source(module_name)
            commands.add_parser(name, help=ast.get_docstring(ast.parse(source)).splitlines()[0])
    args = parser.parse_args(argv)
    try:
        with signals.ending_in_order(), printing():
            args.run(args)
    except signals.Stopped as stopped:
        print(f"ppa {args.command}: {stopped}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print(f"ppa {args.command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, OutputLost):
            message = str(error)
        elif full := out_of_space(error):
            message = f"{full}: nothing more can be written, and nothing half-written stays; free some space"
        elif isinstance(error, OSError):
            message = of_system(error)
        elif isinstance(error, InputError):
            message = str(error)
        else:
            raise
        print(f"ppa {args.command}: error: {message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
