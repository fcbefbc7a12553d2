"""Which errors a user reads as one line."""

import errno
import os

import pytest

from ppa_fairseq.utils.errors import InputError, about_model, one_line, quote


def caused_by(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception:
            raise RuntimeError("writing failed")  # noqa: B904  (as torch does)
    except RuntimeError as error:
        return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
LINE = "No space left on device; free some space and repeat the command; all files are whole or absent"


@pytest.mark.parametrize(
    "error, line",
    [
        (InputError("a:1: empty"), "a:1: empty"),
        (PermissionError(errno.EACCES, "Permission denied", "a"),
         "a: Permission denied; choose another path or change its permissions"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error"),
        (OSError(errno.EPIPE, "Broken pipe"), None),
        (OSError(errno.ENOSPC, "No space left on device", "a"), f"a: {LINE}"),
        (FULL, LINE),
        (caused_by(FULL), LINE),
        (caused_by(FileNotFoundError(errno.ENOENT, "No such file", "a")), None),
        (ValueError("x"), None),
    ],
    ids=["input", "permission", "io", "no-file", "full-file", "full", "full-behind", "another-behind", "program"],
)  # fmt: skip
def test_one_line(error, line):
    assert one_line(error) == line


def test_a_models_error_names_it():
    with pytest.raises(InputError, match="model after: x.pt: truncated"), about_model("after"):
        raise InputError("x.pt: truncated")


def test_quote_is_short_and_printable():
    assert quote("a\x1b[2J") == r"'a\x1b[2J'"
    assert len(quote("x" * 10**6)) <= 80 and len(quote([["x" * 999] * 999] * 999)) < 999
