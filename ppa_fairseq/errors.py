"""What a user did wrong, told in one line instead of a traceback."""

import sys


class InputError(Exception):
    """Bad input. The message says where (file:line), what is wrong and what to do about it."""


def install_excepthook() -> None:
    """Let `fairseq-train` end on an `InputError` with its one line; every other error keeps its traceback."""
    shown_before = sys.excepthook

    def show(kind, error, trace):
        if issubclass(kind, InputError):
            print(f"ppa_fairseq: error: {error}", file=sys.stderr)
        else:
            shown_before(kind, error, trace)

    sys.excepthook = show
