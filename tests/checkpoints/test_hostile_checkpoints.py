"""Model files of a stranger: none of their code is run, and none takes more memory than its size explains."""

import copy
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import TOKENIZER, Touch, random_state, spoilt_model_cfg, trained
from helpers.qa_data import make_qa_bin
from helpers.tiny_folder import make_folder
from helpers.training import TINY_TRAINING, run_training

from ppa_fairseq.commands import main as cli
from ppa_fairseq.utils.errors import InputError

HUGE = 3 << 29  # bytes: 1.5 GiB, more than a test may take and less than a machine refuses at once


class Call:
    """Pickled as a call: `Call(bytearray, 3)` is loaded as three zero bytes."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def rebuilt(size, stride):
    """A tensor of four stored bytes that is loaded with another size and stride."""
    return Call(torch._utils._rebuild_tensor_v2, torch.zeros(1).storage(), 0, size, stride, False, {})


def endless():
    """A value that is small in a file, and longer than any memory when it is shown."""
    value = "x"
    for _ in range(60):
        value = [value, value]
    return value


def aliased(layers: int) -> dict:
    """A whole state of very many layers, all of them views of the same numbers."""
    state = random_state()
    pool = torch.zeros(1 << 20)
    big = {name: (1 << 10, 1 << 10) for name in ("fc1.weight", "fc2.weight")}
    for name, tensor in [item for item in state.items() if ".layers.0." in item[0]]:
        inside = name.partition(".layers.0.")[2]
        for layer in range(layers):
            size = big.get(inside, tuple(tensor.shape))
            state[f"encoder.layers.{layer}.{inside}"] = pool[: torch.Size(size).numel()].view(size)
    return state


def with_model(**tensors):
    return trained(model=random_state() | {name.replace("__", "."): tensor for name, tensor in tensors.items()})


def save_old(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_declaring(size: int, path: Path, method: int) -> None:
    """A zip archive whose first member says that it has *size* bytes when it is unpacked."""
    torch.save(trained(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", size)
    path.write_bytes(content)


def save_overlapping(content: dict, path: Path) -> None:
    """A zip archive in which the same 4 MiB are the content of so many tensors that they take `HUGE` bytes."""
    short, long = 65_537, 1 << 22
    more = [torch.zeros(short, dtype=torch.uint8)[:1] for _ in range(HUGE // long)]
    torch.save(content | {"more": more}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        first = None
        for name, stored in members.items():
            if len(stored) != short:
                archive.writestr(name, stored.replace(b"J" + struct.pack("<i", short), b"J" + struct.pack("<i", long)))
            elif first is None:
                archive.writestr(name, bytes(long))
                first = archive.getinfo(name)
            else:
                archive.filelist.append(copy.copy(first))
                archive.filelist[-1].filename = name


def save_pickled(pickled: bytes, path: Path) -> None:
    """An archive as torch writes it, with a pickle that was written by hand."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)


LONG = b"x" * 1_000_000  # torch would search its own message on it for hours
LONG_TEXT = b"X" + struct.pack("<i", len(LONG)) + LONG


def save_longer_storage(path: Path) -> None:
    """A file of torch < 1.6 that announces `HUGE` bytes and holds 70,000 numbers."""
    save_old(torch.zeros(70_000), path)
    short, long = (struct.pack("<i", numbers) for numbers in (70_000, HUGE // 4))
    content = path.read_bytes()
    assert b"J" + short in content
    path.write_bytes(content.replace(b"J" + short, b"J" + long))


PICKLES = {  # name: (what writes it, part of the message)
    "compressed": (lambda path: save_declaring(HUGE, path, zipfile.ZIP_DEFLATED), "is compressed"),
    "a member larger than the file": (lambda path: save_declaring(HUGE, path, zipfile.ZIP_STORED), ": "),
    "an allocation": (lambda path: torch.save(Call(bytearray, HUGE), path), "asks for more memory"),
    "an allocation in the old format": (lambda path: save_old(Call(bytearray, HUGE), path), "asks for more memory"),
    "an empty storage": (lambda path: torch.save(Call(torch.UntypedStorage, HUGE), path), "asks for more memory"),
    "a long storage in the old format": (save_longer_storage, "asks for more memory"),
    "a size beyond its storage": (lambda path: torch.save(rebuilt((HUGE // 4,), (1,)), path), "truncated, or no"),
    "the same in the old format": (lambda path: save_old(rebuilt((HUGE // 4,), (1,)), path), ": "),
    "strides of 0": (
        lambda path: torch.save(with_model(lm_head__bias=torch.zeros(1).expand(HUGE // 4)), path),
        "larger than what is stored of it",
    ),
    "layers that are one": (
        lambda path: torch.save(trained(model=aliased(200), cfg=spoilt_model_cfg(encoder_layers=200)), path),
        "more than the file explains",
    ),
    "a sparse tensor": (
        lambda path: torch.save(with_model(lm_head__bias=torch.zeros(20).to_sparse()), path),
        "lm_head.bias is no plain tensor",
    ),
    "a tensor without numbers": (
        lambda path: torch.save(with_model(lm_head__bias=torch.empty(20, device="meta")), path),
        "lm_head.bias is no plain tensor",
    ),
    "a billion layers": (
        lambda path: torch.save(trained(cfg=spoilt_model_cfg(encoder_layers=10**9)), path),
        "layers is 1000000000, which is no size",
    ),
    "a million layers": (
        lambda path: torch.save(trained(cfg=spoilt_model_cfg(encoder_layers=10**6)), path),
        "are not 1,000,000 layers",
    ),
    "a width of 10^12": (
        lambda path: torch.save(trained(cfg=spoilt_model_cfg(encoder_embed_dim=10**12)), path),
        "dim is 1000000000000, which is no size",
    ),
    "no head": (lambda path: torch.save(trained(cfg=spoilt_model_cfg(encoder_attention_heads=0)), path), "heads is 0"),
    "a size in words": (lambda path: torch.save(trained(cfg=spoilt_model_cfg(encoder_layers="2")), path), "is str"),
    "an endless size": (
        lambda path: torch.save(trained(cfg=spoilt_model_cfg(encoder_layers=endless())), path),
        "KeyError: 'encoder_layers'",
    ),
    "endless labels": (
        lambda path: torch.save(trained(task_state={"tokenizer": TOKENIZER, "labels": endless()}), path),
        "labels or tokenizer are no text",
    ),
    "no dictionary": (lambda path: torch.save(trained(cfg={"model": torch.zeros(3)}), path), "no checkpoint"),
    "tensors over each other": (lambda path: save_overlapping(trained(), path), "lie over each other"),
    "a long name": (lambda path: save_pickled(b"\x80\x02cm\n" + LONG + b"\n.", path), "holds a Python object (m.xxx"),
    "a call of a long text": (lambda path: save_pickled(b"\x80\x02" + LONG_TEXT + b")R.", path), "truncated, or no"),
    "an object of a long text": (lambda path: save_pickled(b"\x80\x02" + LONG_TEXT + b")\x81.", path), "truncated"),
}


def safetensors(header: dict | bytes, body: int = 0, length: int | None = None) -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(body)


def one(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


WEIGHTS = {  # of a Hugging Face folder
    "a header of a terabyte": safetensors({}, length=1 << 40),
    "a header beyond the file": safetensors({"a": one([1], 0, 4)}, 4, length=1 << 20),
    "a shape beyond the file": safetensors({"a": one([10**12], 0, 4)}, 4),
    "a shape beyond 64 bits": safetensors({"a": one([1 << 40, 1 << 40], 0, 4)}, 4),
    "offsets beyond the file": safetensors({"a": one([10**12], 0, 4 * 10**12)}, 4),
    "offsets that overlap": safetensors({"a": one([2], 0, 8), "b": one([2], 4, 12)}, 12),
    "offsets that run back": safetensors({"a": one([1], 4, 0)}, 4),
    "an unknown kind of number": safetensors({"a": one([1], 0, 4, "F31")}, 4),
    "a nested header": safetensors(b'{"a":' * 10_000 + b"0" + b"}" * 10_000),
}
CONFIGS = {
    "a billion layers": ({"num_hidden_layers": 10**9}, "layers"),
    "a million layers": ({"num_hidden_layers": 10**6}, "are not 1,000,000 layers"),
    "a vocabulary of 10^12": ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
    "a width of 16 million": ({"hidden_size": 1 << 24}, "not (20, 16777216)"),
    "a width of 10^300": ({"hidden_size": 10**300}, "no size"),
    "endless": ({"layer_norm_eps": float("inf")}, "no size"),
}
INDEXES = ["../../weights/sound/model.safetensors", "/etc/passwd", "..", "model.safetensors.index.json/x", "a\x00b"]
TEXTS = ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "config.json", "sentencepiece.bpe.model"]

ATTEMPT = """
import json, pathlib, resource, sys
from ppa_fairseq.utils.errors import InputError

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmPeak"))

def attempt(case, read):
    before = peak()
    resource.setrlimit(resource.RLIMIT_AS, (before + (2 << 30), resource.RLIM_INFINITY))  # the machine's safety
    try:
        told = read() and ""
    except InputError as error:
        told = str(error)
    except BaseException as error:
        told = f"no InputError:\\n{error!r}"
    print(json.dumps([case, told, peak() - before]), flush=True)
"""
READ = """
from ppa_fairseq.checkpoints import format as checkpoint

checkpoint.read(pathlib.Path(sys.argv[1]) / "sound" / "c.pt")
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*")):
    attempt(f"{path.parent.name}/{path.name}", lambda: checkpoint.read(path))
"""


def attempted(program: str, *arguments) -> dict[str, tuple[str, int]]:
    """{case: (message, bytes by which the process grew)} of all that *program* attempts, in one process."""
    command = [sys.executable, "-c", ATTEMPT + program, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900)  # seconds: a hang is a fault, too
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith('["')]
    return {case: (told, growth) for case, told, growth in map(json.loads, lines)}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """{kind/case: (message, bytes by which the process grew)} of all files above, read in one process."""
    root = tmp_path_factory.mktemp("hostile")
    for kind in ("sound", "pickle", "weights", "config", "index", "text"):
        (root / kind).mkdir()
    torch.save(trained(), root / "sound" / "c.pt")
    for case, (write, _) in PICKLES.items():
        write(root / "pickle" / case)
    for case, content in WEIGHTS.items():
        make_folder(root / "weights" / case)
        (root / "weights" / case / "model.safetensors").write_bytes(content)
    make_folder(root / "weights" / "sound")
    for case, (changes, _) in CONFIGS.items():
        make_folder(root / "config" / case, **changes)
    for number, name in enumerate(INDEXES):
        folder = make_folder(root / "index" / str(number))
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    for name in TEXTS:
        with (make_folder(root / "text" / name) / name).open("wb") as file:
            file.truncate(HUGE)
    return attempted(READ, root)




EXPECTED = {"sound/c.pt": "", "weights/sound": ""}
EXPECTED |= {f"pickle/{case}": message for case, (_, message) in PICKLES.items()}
EXPECTED |= {f"weights/{case}": "truncated, or no safetensors file" for case in WEIGHTS}
EXPECTED |= {f"config/{case}": message for case, (_, message) in CONFIGS.items()}
EXPECTED |= {f"index/{number}": "is no file of this folder" for number in range(len(INDEXES))}
EXPECTED |= {f"text/{name}": f"{HUGE:,} bytes, and" for name in TEXTS}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process takes")
@pytest.mark.parametrize("case", EXPECTED)
def test_a_bomb_is_refused_before_it_takes_memory(refusals, case):
    told, growth = refusals[case]
    assert EXPECTED[case] in told and bool(told) == bool(EXPECTED[case]), told
    assert "\n" not in told and growth < HUGE // 2


def itself():
    value = []
    value.append(value)
    return value


def spoilt(change):
    """Writes a checkpoint after *change* to its content."""

    def write(content, path):
        change(content)
        torch.save(content, path)

    return write


def with_moments(**moments):
    """Of the first weight, in the optimizer's state."""
    return spoilt(lambda content: content["last_optimizer_state"]["state"][0].update(moments))


EMPTY = torch.zeros(1, dtype=torch.float64).expand(HUGE // 4)
POOL = torch.zeros(1 << 17, dtype=torch.float64)
GONE_ON_FROM = {  # name: (what writes it from a sound checkpoint, part of the message)
    "sound": (torch.save, ""),
    "strides of 0": (with_moments(exp_avg=EMPTY), "'exp_avg' is no plain tensor, or larger than what is stored of it"),
    "moments that are one": (with_moments(**{f"m{n}": POOL for n in range(HUGE >> 19)}), "more than the file explains"),
    "endless moments": (with_moments(exp_avg=endless()), "nested without end"),
    "endless flags": (spoilt(lambda content: content["cfg"]["common"].update(user_dir=endless())), "without end"),
    "a list of itself": (spoilt(lambda content: content["extra_state"].update(best=itself())), "without end"),
    "strides of 0 in a set": (spoilt(lambda content: content["extra_state"].update(a=[{EMPTY}])), "'a' is no plain"),
    "tensors over each other": (save_overlapping, "lie over each other"),
}
GOES_ON = ["--save-dir", "--restore-file", "--continue-once", "--finetune-from-model"]
EVERYWHERE = ["sound", "strides of 0"]
GO_ON = """
from helpers.training import run_training

for case, argv, save_dir in json.loads(sys.argv[2]):
    attempt(case, lambda: run_training(argv, pathlib.Path(save_dir)))
"""


@pytest.fixture(scope="module")
def trainings(data_bin, tmp_path_factory):
    """As `refusals`, of trainings that go on from the files above, given in each of the places."""
    root, runs = tmp_path_factory.mktemp("trainings"), []
    argv = [str(data_bin), *TINY_TRAINING, "--disable-validation", "--max-update"]
    run_training([*argv, "1"], root / "first")
    for case, (write, _) in GONE_ON_FROM.items():
        path = root / f"{case}.pt"
        write(torch.load(root / "first" / "checkpoint_last.pt", weights_only=True), path)
        for place in GOES_ON if case in EVERYWHERE else GOES_ON[:1]:
            folder, flags = root / case / place, [place, str(path)]
            folder.mkdir(parents=True)
            if place == "--save-dir":
                (folder / "checkpoint_last.pt").symlink_to(path)
                flags = []
            runs.append((f"{case}/{place}", [*argv, "2", *flags], str(folder)))
    return attempted(GO_ON, Path(__file__).parents[1], json.dumps(runs))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process takes")
@pytest.mark.parametrize(
    ("case", "place"),
    [(case, "--save-dir") for case in GONE_ON_FROM] + [(case, place) for case in EVERYWHERE for place in GOES_ON[1:]],
)
def test_no_training_goes_on_from_a_bomb(trainings, case, place):
    told, growth = trainings[f"{case}/{place}"]
    expected = GONE_ON_FROM[case][1]
    assert expected in told and bool(told) == bool(expected), told
    assert not expected or f"{case}.pt: " in told or "checkpoint_last.pt: " in told
    assert "\n" not in told and growth < HUGE // 2


COMMANDS = {
    "import-hf": "import-hf {folder} {out}",
    "export-hf": "export-hf {file} {out}",
    "retrieve": "retrieve --model m={file} --pairs {texts} --output {out}",
    "embed": "embed --model {file} --input {texts}/de-en.en --output {out}",
    "evaluate-xnli": "evaluate-xnli --model m={file} --data en={texts}/nli.tsv --output {out}",
    "evaluate-qa": "evaluate-qa --model m={file} --data en={texts}/qa.json --output {out}",
    "word-align": "word-align --model m={file} --text {texts}/words.tsv --output {out}",
    "perplexity": "perplexity --model m={file} --text en={texts}/de-en.en --output {out}",
    "trim-vocab": "trim-vocab {file} {out} en={texts}/de-en.en",
    "prepare-bitext": "prepare-bitext --tokenizer {folder} --out {out} de-en={texts}/words.tsv",
}


@pytest.fixture
def attack(tmp_path):
    """Files that make the folder `ran` when they are loaded, as pickles are by default: a checkpoint, weights alone."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "c.pt", tmp_path / "folder" / "pytorch_model.bin"):
        torch.save(trained(extra_state=Touch(tmp_path / "ran")), path)
    make_folder(tmp_path / "sound")
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / "sound" / name).rename(tmp_path / "folder" / name)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_the_code_of_a_model(attack, capsys, command):
    (attack / "texts").mkdir()
    for name, text in (
        ("de-en.de", "a b\nc\n"),
        ("de-en.en", "a c\nd\n"),
        ("nli.tsv", "a b\ta c\tneutral\nb\tc\tneutral\n"),
        ("words.tsv", "a b\ta c\n"),
    ):
        (attack / "texts" / name).write_text(text)
    question = {"id": "q", "question": "a", "answers": [{"text": "b", "answer_start": 2}]}
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": [question]}]}]}
    (attack / "texts" / "qa.json").write_text(json.dumps(squad))
    places = {"file": attack / "c.pt", "folder": attack / "folder", "texts": attack / "texts", "out": attack / "out"}
    status = cli.main(COMMANDS[command].format(**places).split())
    told = capsys.readouterr().err
    assert not (attack / "ran").exists()
    if command == "prepare-bitext":  # which reads no weights
        return
    assert status == 1 and "holds a Python object (posix.mkdir)" in told.splitlines()[-1]
    assert not (attack / "out").exists()
    torch.load(attack / "c.pt", weights_only=False)
    assert (attack / "ran").exists()  # it would have run


@pytest.mark.parametrize("place", ["--pretrained", *GOES_ON])
def test_no_training_runs_the_code_of_a_checkpoint(attack, train, place):
    (attack / "checkpoints").mkdir()
    flags = [place, str(attack / "c.pt")]
    if place == "--save-dir":  # as if it were this training's own
        (attack / "c.pt").rename(attack / "checkpoints" / "checkpoint_last.pt")
        flags = []
    with pytest.raises(InputError, match=r"holds a Python object \(posix.mkdir\)"):
        train("--max-update", "1", *flags)
    assert not (attack / "ran").exists()


def test_no_fine_tuning_runs_the_code_of_a_checkpoint(attack, dictionary):
    (attack / "qa").mkdir()
    data = make_qa_bin(attack / "qa", dictionary, {"train": 4, "valid": 4})
    flags = "--user-dir ppa_fairseq --task mlqa_codeswitch --arch ppa_bert_reader --criterion span_prediction --cpu"
    flags = [*flags.split(), "--optimizer", "adam", "--batch-size", "2", "--pretrained", str(attack / "c.pt")]
    with pytest.raises(InputError, match=r"c.pt: holds a Python object \(posix.mkdir\)"):
        run_training([str(data), *flags], attack / "checkpoints")
    assert not (attack / "ran").exists()
