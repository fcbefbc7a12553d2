"""Files plain or packed (.gz, .xz, .bz2, .zst), on the disk or in a .zip, as streams of bytes."""

import bz2
import gzip
import lzma
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.extras import load_extra


def _open_zst(file: BinaryIO | Path, mode: str = "rb") -> BinaryIO:
    return _zstd(getattr(file, "name", file)).open(file, mode)


def _zstd(purpose: object):
    return load_extra("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", "sources", purpose)


UNPACKERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open, ".zst": _open_zst}
CAT = {".gz": "zcat", ".xz": "xzcat", ".bz2": "bzcat", ".zst": "zstdcat"}
PACKED_OTHERWISE = (".zip", ".tar", ".tgz", ".tbz", ".txz", ".7z", ".rar", ".Z", *UNPACKERS)
PACKINGS = "plain, .gz, .xz, .bz2 or .zst"


@dataclass(frozen=True)
class ZipMember:
    """A file in a .zip, with the part of Path's interface that readers use."""

    archive: Path
    inside: PurePosixPath

    def __str__(self) -> str:
        return f"{self.archive}:{self.inside}"

    @property
    def name(self) -> str:
        return self.inside.name

    @property
    def suffix(self) -> str:
        return self.inside.suffix

    @property
    def size(self) -> int:
        """Bytes that it takes in the archive; 0 if it is not in it."""
        return self._sizes.get(str(self.inside), 0)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        with naming_damage(self.archive), zipfile.ZipFile(self.archive) as archive:
            return {member.filename: member.compress_size for member in archive.infolist()}

    def with_name(self, name: str) -> "ZipMember":
        return ZipMember(self.archive, self.inside.with_name(name))

    def is_dir(self) -> bool:
        return False

    def is_file(self) -> bool:
        return str(self.inside) in self._sizes


File = Path | ZipMember


def members_of(archive: Path) -> list[ZipMember]:
    """The files in a .zip, sorted by name. Raises InputError if it is damaged."""
    with naming_damage(archive), zipfile.ZipFile(archive) as file:
        names = sorted(member.filename for member in file.infolist() if not member.is_dir())
        return [ZipMember(archive, PurePosixPath(name)) for name in names]


@contextmanager
def open_unpacked(path: File) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield the open file as it is on the disk, whose position tells the progress, and its unpacked bytes.

    An InputError says that it is truncated or damaged; a missing file raises FileNotFoundError.
    """
    with ExitStack() as stack:
        stack.enter_context(naming_damage(path))
        raw = file = stack.enter_context(open(path.archive if isinstance(path, ZipMember) else path, "rb"))
        if isinstance(path, ZipMember):
            file = stack.enter_context(_open_member(stack.enter_context(zipfile.ZipFile(raw)), path))
        if path.suffix in UNPACKERS:
            file = stack.enter_context(UNPACKERS[path.suffix](file))
        yield raw, file


def _open_member(archive: zipfile.ZipFile, path: ZipMember) -> BinaryIO:
    try:
        return archive.open(str(path.inside))
    except KeyError:
        raise InputError(f"{path}: no such file in the archive") from None
    except (RuntimeError, NotImplementedError) as error:  # a password; an unknown method
        raise InputError(f"{path}: cannot be unpacked ({error}); unpack it by hand") from None


@contextmanager
def naming_damage(path: object, advice: str = "download it again") -> Iterator[None]:
    """Raise InputError if an archive cannot be unpacked."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); {advice}") from None
    except Exception as error:  # bz2 raises an OSError without a number, zstd an error of its own
        if type(error).__name__ == "ZstdError" or (isinstance(error, OSError) and error.errno is None):
            raise InputError(f"{path}: truncated or damaged ({error}); {advice}") from None
        raise


def unpacked_name(path: File) -> PurePosixPath:
    """What a file would be called unpacked, without its folder. Raises InputError if it is packed otherwise."""
    unpacked = PurePosixPath(path.name)
    if path.suffix in UNPACKERS:
        unpacked = unpacked.with_suffix("")
    if unpacked.suffix in PACKED_OTHERWISE:
        raise InputError(f"{path}: cannot read {unpacked.suffix}; unpack it, or pack it as .gz, .xz, .bz2 or .zst")
    return unpacked
