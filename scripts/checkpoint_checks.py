"""What must hold of the readers of checkpoints: whole, none of their code run, no memory that they do not explain."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import reader_seeds
import torch
from reader_files import place, refused

from ppa_fairseq import checkpoint
from ppa_fairseq.compat import prepare_torch_load
from ppa_fairseq.errors import InputError
from ppa_fairseq.evaluation.training_record import read_record
from ppa_fairseq.host_memory import at_most
from ppa_fairseq.models.packing import pack
from ppa_fairseq.weights import MEMORY_BASE, MEMORY_SHARE, PARTS

# What pickled code would do, and no reader does; `open` counts if it is to write.
DEEDS = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"}
DEEDS |= {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate"}
SLACK = 64 << 20  # bytes that modules imported in between may take


@cache
def watcher() -> list:
    """Has a list of deeds in it while somebody watches; Python never lets go of a hook."""
    watching = []

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and set(str(arguments[1])) & set("wax+") and arguments[0] != os.devnull
        if watching and (event in DEEDS or writes):
            watching[-1].append((event, arguments))

    sys.addaudithook(hook)
    return watching


@contextmanager
def harmless(size: int) -> Iterator[None]:
    """AssertionError if this block does what only a file's code would, or takes more than *size* bytes explain."""
    deeds, before = [], memory()
    watcher().append(deeds)
    try:
        yield
    finally:
        watcher().pop()
    assert not deeds, f"a file's code was run: {deeds}"
    limit = before["VmSize"] + MEMORY_BASE + (MEMORY_SHARE + 1) * size + SLACK  # the file itself is mapped, too
    assert memory()["VmPeak"] <= max(before["VmPeak"], limit), f"more memory than {size:,} bytes explain"


def memory() -> dict[str, int]:
    """Bytes of this process's address space, now and at the most; nothing but on Linux."""
    if sys.platform != "linux":
        return dict.fromkeys(("VmSize", "VmPeak"), 0)
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {cells[0][:-1]: int(cells[1]) << 10 for cells in lines if cells[0] in ("VmSize:", "VmPeak:")}


def check_checkpoint(name: str, content: bytes) -> bool:
    """What is read is what torch reads, whole, finite, of the encoder's size; none of the file's code is run."""
    path = place(name, content) if name != reader_seeds.PICKLE else place("pickle.pt", repacked(content))
    size = path.stat().st_size
    try:
        with harmless(size):
            found = checkpoint.read(path)
            encoder, tokenizer = checkpoint.load_encoder(path)
            told = str(read_record(path) or "")
            cfg = checkpoint.read_cfg(path)
    except InputError as error:
        plain = plain_content(path)
        sound = any(is_like(plain, content) for content in reader_seeds.checkpoint_contents().values())
        assert not (sound and is_whole(path)), f"a sound checkpoint refused: {error}"
        return refused(error)
    plain = plain_content(path)
    assert plain is not None, "read, though torch cannot"
    weights = {name: tensor for name, tensor in plain["model"].items() if name.startswith(PARTS)}
    assert (
        weights.keys() == found.state.keys() == {n for n in plain["model"] if n.split(".")[0] not in found.left_behind}
    )
    if not equal(weights, found.state):
        # At a damaged directory torch finds other bytes where it copies than where it maps, as the readers have it do.
        assert equal(plain_content(path, mapped=True)["model"], found.state), "other numbers than torch's"
    assert all(tensor.is_floating_point() and tensor.double().isfinite().all() for tensor in found.state.values())
    assert sum(tensor.nbytes for tensor in found.state.values()) <= size
    assert found.tokenizer == plain["task_state"]["tokenizer"]
    assert all(isinstance(v, (str, int, float, type(None))) for group in cfg.values() for v in group.values())
    assert told.isprintable()
    assert max(tokenizer.get_vocab().values()) < found.shape.vocab_size, "ids that have no word embedding"
    ids = tokenizer.encode("Haus")
    try:
        hidden = encoder(**pack([torch.tensor(ids.ids)]))["hidden"]
    except InputError as error:
        return refused(error)  # no room for a word of four letters
    assert hidden.shape == (len(ids), found.shape.dim)
    return True


def equal(expected: dict, tensors: dict) -> bool:
    return all(torch.equal(expected[name], tensor) for name, tensor in tensors.items())


def repacked(pickled: bytes) -> bytes:
    """The sound checkpoint's archive, with another pickle in it: edited in place, it would be no archive any more."""
    path = place("repacked.pt", b"")
    with (
        ZipFile(place("sound.pt", dict(reader_seeds.checkpoint_seeds())["training.pt"])) as sound,
        ZipFile(path, "w", ZIP_STORED) as archive,
    ):
        for member in sound.namelist():
            archive.writestr(member, pickled if member.endswith(reader_seeds.PICKLE) else sound.read(member))
    return path.read_bytes()


def plain_content(path: Path, mapped: bool = False):
    """What torch finds in a file that torch.save may have written; None where there is nothing."""
    prepare_torch_load()
    try:
        with at_most(MEMORY_BASE):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # Known, and not refused: mapped, torch believes the pickle of how long a storage is, and reads on in the file.
        longer = "does not match expected size" in str(error)
        return plain_content(path, mapped=True) if longer and not mapped else None


def is_whole(path: Path) -> bool:
    """Whether a file is no archive, or one as torch writes it, with all its bytes as they were."""
    try:
        if not is_zipfile(path):
            return True
        with ZipFile(path) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == ZIP_STORED for member in members)
            return stored and sum(m.file_size for m in members) <= path.stat().st_size and archive.testzip() is None
    except Exception:
        return False


def is_like(found, sound) -> bool:
    """Whether a checkpoint is a sound one, but for the numbers in its tensors, which must be finite."""
    if isinstance(sound, torch.Tensor):
        plain = isinstance(found, torch.Tensor) and found.layout is torch.strided and found.is_contiguous()
        return plain and found.shape == sound.shape and found.dtype == sound.dtype and bool(found.isfinite().all())
    if type(found) is not type(sound):
        return False
    if isinstance(sound, Namespace):
        found, sound = vars(found), vars(sound)
    if isinstance(sound, dict):
        return found.keys() == sound.keys() and all(is_like(found[key], value) for key, value in sound.items())
    if isinstance(sound, (list, tuple)):
        return len(found) == len(sound) and all(map(is_like, found, sound))
    return found == sound
