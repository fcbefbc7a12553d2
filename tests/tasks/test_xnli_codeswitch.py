"""The task `xnli_codeswitch` under fairseq-train: --pretrained, exact resume, ranks, validation, bad input."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.logging.progress_bar import SimpleProgressBar
from helpers.nli_data import LABELS, SHIFT, make_nli_bin, rows
from helpers.ranks import train_on_ranks
from helpers.training import NLI, assert_same_training, run_training

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.tokenizer import write_files
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, part
from ppa_fairseq.data.classification.prepare import FIELDS
from ppa_fairseq.modules.bert import BertEncoder
from ppa_fairseq.modules.heads import ClassificationHead
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.utils.errors import InputError

SIZES = {"train": 150, "valid": 45}
SETTINGS = """
    --user-dir ppa_fairseq --cpu --optimizer adam --lr 1e-2 --batch-size 8 --max-length 32
    --log-format simple --log-interval 4 --no-epoch-checkpoints --num-workers 0
""".split()
NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--head-dropout", "0"]
NO_VALIDATION = "--disable-validation"


@pytest.fixture(scope="module")
def nli_bin(tmp_path_factory, dictionary):
    return make_nli_bin(tmp_path_factory.mktemp("nli"), dictionary, SIZES)


@pytest.fixture
def finetune(nli_bin, imported, tmp_path):
    """``finetune("--max-update", "6", …)`` fine-tunes a tiny imported BERT and returns the last checkpoint."""
    folder = imported()

    def run(*arguments, save_dir="checkpoints", data=nli_bin):
        return run_training([str(data), *SETTINGS, *NLI, "--pretrained", str(folder), *arguments], tmp_path / save_dir)

    return run


def accuracy_of(path, first, second, examples):
    """Percent of *examples* that a checkpoint classifies, one by one; premises in *first*, hypotheses in *second*."""
    trained, correct = checkpoint.read(path), 0
    encoder = BertEncoder(trained.shape).eval()
    encoder.load_state_dict(part(trained.state, "encoder."))
    head = ClassificationHead(trained.shape.dim, len(trained.labels), 0.1).eval()
    head.load_state_dict(part(trained.state, CLASSIFICATION_HEAD))
    for *sides, label in examples:
        ids = [[10 + w + SHIFT[lang] for w in side] for side, lang in zip(sides, (first, second), strict=True)]
        tokens = torch.tensor([7, *ids[0], 8, *ids[1], 8])
        types = torch.tensor([0] * (len(ids[0]) + 2) + [1] * (len(ids[1]) + 1))
        with torch.no_grad():
            packed = pack([tokens], [types])
            logits = head(pool(encoder(**packed)["hidden"], packed["cu_seqlens"], "cls"))[0]
        correct += trained.labels[int(logits.argmax())] == label
    return 100 * correct / len(examples)


def test_frozen_embeddings_stay(finetune, imported):
    before = part(checkpoint.read(imported()).state, "encoder.")
    after = part(finetune("--max-update", "2", "--freeze-embeddings", NO_VALIDATION)["model"], "encoder.")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("layers.")}


def test_validation_logs_each_language_and_their_average(finetune, tmp_path, monkeypatch):
    """Equal to a loop over the examples; the average chooses the best checkpoint. The same by fairseq-validate."""
    from fairseq_cli import validate

    logged = {}  # the last values by subset
    monkeypatch.setattr(SimpleProgressBar, "print", lambda bar, stats, tag, step: logged.update({tag: dict(stats)}))
    metric = ["--best-checkpoint-metric", "accuracy_avg", "--maximize-best-checkpoint-metric"]
    state = finetune("--train-langs", "en,fr", "--max-epoch", "3", "--valid-subset", "valid,valid.fr", *metric)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    examples = rows(SIZES["valid"], seed=len("valid"))
    expected = {f"accuracy_{language}": accuracy_of(last, language, language, examples) for language in SHIFT}
    assert len(set(expected.values())) > 1
    expected["accuracy_avg"] = np.mean(list(expected.values()))
    assert {name: logged["valid"][name] for name in expected} == pytest.approx(expected, abs=0.01)
    assert logged["valid.fr"]["accuracy_fr"] == pytest.approx(expected["accuracy_fr"], abs=0.01)
    assert "accuracy_en" not in logged["valid.fr"]
    assert state["extra_state"]["val_loss"] == pytest.approx(expected["accuracy_avg"], abs=0.01)
    assert checkpoint.read(last).labels == list(LABELS)
    argv = ["fairseq-validate", state["cfg"]["task"]["data"], "--path", str(last), "--batch-size", "7", "--cpu"]
    argv += ["--user-dir", "ppa_fairseq", "--task", "xnli_codeswitch", "--valid-subset", "valid.de"]
    monkeypatch.setattr(sys, "argv", [*argv, "--log-format", "simple"])
    validate.cli_main()
    assert logged["valid.de"]["accuracy_de"] == pytest.approx(expected["accuracy_de"], abs=0.01)


RESUMED = {
    "plain": [],
    "accumulated": ["--update-freq", "2", "--num-workers", "2"],
    "adapters": ["--lora-rank", "2"],
    "a part": ["--freeze-embeddings"],
}


@pytest.mark.parametrize("extra", RESUMED.values(), ids=RESUMED)
def test_a_resumed_training_equals_an_uninterrupted_one(finetune, extra):
    """Stopped in the middle of an epoch, and in the next one, which draws its own code-switching; with dropout."""
    mixed = ["--train-langs", "en,de,fr", "--code-switch", "--code-switch-prob", "0.5", "--batch-size", "32"]
    settings = [*extra, *mixed, NO_VALIDATION, "--lr-scheduler", "polynomial_decay", "--total-num-update", "40"]
    whole = finetune("--max-update", "40", *settings, save_dir="whole")
    for stop in ("5", "25", "40"):
        parts = finetune("--max-update", stop, *settings, save_dir="parts")
    assert_same_training(whole, parts)


def test_two_ranks_equal_one_rank_with_the_same_global_batch(finetune, nli_bin, imported, tmp_path):
    """The last update has a dummy on rank 1; both log the same accuracies."""
    settings = ["--max-epoch", "2", *NO_DROPOUT, "--batch-size", "10"]
    settings += ["--train-langs", "de,en", "--code-switch", "--best-checkpoint-metric", "accuracy_avg"]
    one = finetune(*settings, "--update-freq", "2", save_dir="one")
    argv = [str(nli_bin), *SETTINGS, *NLI, "--pretrained", str(imported()), *settings]
    done = train_on_ranks(2, argv, tmp_path / "two")
    assert [rank.exitcode for rank in done] == [0, 0], done[0].output[-3000:]
    two = torch.load(tmp_path / "two" / "checkpoint_last.pt", weights_only=True)
    assert one["optimizer_history"][-1]["num_updates"] == two["optimizer_history"][-1]["num_updates"]
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert one["extra_state"]["val_loss"] == pytest.approx(two["extra_state"]["val_loss"], abs=2.3)


def test_it_learns(finetune, tmp_path):
    """From translations and code-switching, to tell "not" in either language: well over a third."""
    settings = [*NO_DROPOUT, "--lr", "3e-3", NO_VALIDATION]
    finetune("--train-langs", "en,de", "--code-switch", "--max-epoch", "10", *settings)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    for languages in (("en", "de"), ("de", "en"), ("de", "de"), ("en", "en")):
        assert accuracy_of(last, *languages, rows(60, seed=99)) >= 60, languages


def test_the_log_says_what_pretrained_gives(finetune, train, imported, tmp_path, caplog):
    """The query encoder of an alignment; of a fine-tuned model the head too, unless the user asks for a new one."""
    caplog.set_level(logging.INFO)
    aligned = train("--pretrained", str(imported()), "--max-update", "2", NO_VALIDATION, save_dir="aligned")

    def start(folder, *flags, save_dir):
        path = tmp_path / folder / "checkpoint_last.pt"
        flags = ["--pretrained", str(path), *flags, "--max-update", "1", "--lr", "0", NO_VALIDATION]
        return finetune(*flags, save_dir=save_dir)["model"]

    first = start("aligned", save_dir="first")
    assert all(torch.equal(first[name], aligned["model"][name]) for name in first if name.startswith("encoder."))
    assert "loaded the encoder (1 layers) and no head (a new one starts)" in caplog.text
    assert "not loaded: lm_head, momentum_encoder, projection, queue" in caplog.text
    head = CLASSIFICATION_HEAD + "dense.weight"
    assert torch.equal(start("first", save_dir="again")[head], first[head])
    assert not torch.equal(start("first", "--new-head", "--seed", "5", save_dir="anew")[head], first[head])


def test_a_head_of_other_classes_is_refused(finetune, imported, tmp_path):
    start = checkpoint.read(imported())
    head = {"dense.weight": (16, 16), "dense.bias": (16,), "out_proj.weight": (2, 16), "out_proj.bias": (2,)}
    start.state |= {CLASSIFICATION_HEAD + name: torch.zeros(size) for name, size in head.items()}
    start.labels = ["yes", "no"]
    checkpoint.write(tmp_path / "other" / "model.pt", start)
    arguments = ["--pretrained", str(tmp_path / "other"), "--max-update", "1", NO_VALIDATION]
    with pytest.raises(InputError, match="has the classes yes, no, but the data has entailment, neutral"):
        finetune(*arguments)
    finetune(*arguments, "--new-head")


def test_data_of_another_tokenizer_is_refused(finetune, nli_bin, imported, tmp_path):
    """With the same vocabulary: the data's tokenizer keeps capital letters, the model's does not."""
    shutil.copytree(nli_bin, tmp_path / "bin")
    tokenizer = checkpoint.read(imported()).tokenizer
    write_files(tokenizer | {"tokenizer_config.json": '{"do_lower_case": false}'}, tmp_path / "bin")
    with pytest.raises(InputError, match="has another tokenizer than the data, .* they differ in: normalizer; prepare"):
        finetune("--max-update", "1", data=tmp_path / "bin")
    write_files(tokenizer, tmp_path / "bin")
    finetune("--max-update", "1", NO_VALIDATION, data=tmp_path / "bin")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-langs", "en,sv"], "no training data in .sv., only in de, en, fr"),
        (["--code-switch"], "--code-switch mixes other languages with English; name some"),
        (["--train-langs", "en,de", "--code-switch", "--code-switch-prob", "0"], "--code-switch-prob 0.0 must be over"),
        (["--train-langs", "en,de", "--code-switch", "--batch-size", "1"], "2 sequences .* must share a batch"),
        (["--code-switch-english", "first"], "need --code-switch; add it or omit them"),
        (["--max-length", "7"], "--max-length 7 must be at least 8"),
        (["--max-length", "512", "--max-tokens", "9"], "is over 9, the limit of the encoder or of --max-tokens"),
        (["--train-subset", "valid"], "--train-subset: this task trains only on the split 'train'"),
        (["--valid-subset", "valid.sv"], "no valid data in .sv., only in de, en, fr"),
        (["--best-checkpoint-metric", "accuracy_sv"], "accuracy_sv: valid, the first .*, logs accuracy_de, accuracy_"),
        (["--valid-subset", "valid.en,valid.fr", "--best-checkpoint-metric", "accuracy_fr"], "valid.en, the first "),
    ],
)
def test_bad_input_is_one_clear_line(finetune, arguments, message):
    with pytest.raises(InputError, match=message):
        finetune("--max-update", "1", *arguments)


def replace(folder, name, source):
    for kind in ("bin", "idx"):
        shutil.copy(folder / f"fr/{source}.{kind}", folder / f"fr/{name}.{kind}")


def append(path):
    path.write_text(path.read_text() + "other 1\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: shutil.rmtree(d / "fr" / "label"), "fr/label/dict.txt: no such file"),
        (lambda d: (d / "fr/label/train.idx").unlink(), "fr/label/train.bin and .idx: no such file"),
        (lambda d: replace(d, "input1/train", "input1/valid"), "150 premises, 45 hypotheses, 150 labels"),
        (lambda d: replace(d, "label/train", "input0/train"), "fr/label/train: row 1 is not one label"),
        (lambda d: [replace(d, f"{p}/train", f"{p}/valid") for p in FIELDS], "45 rows in fr, but 150 in en"),
        (lambda d: append(d / "fr/label/dict.txt"), "fr/label/dict.txt differs from"),
        (lambda d: append(d / "fr/input1/dict.txt"), "fr/input1/dict.txt differs from"),
        (lambda d: (d / "fr/input0/train.bin").write_bytes(b"\0" * 50), "fr/input0/train.bin and .idx: damaged"),
        (lambda d: shutil.rmtree(d / "en"), "no training data in .en., only in de, fr"),
        (lambda d: [shutil.rmtree(d / language) for language in SHIFT], "no LANGUAGE/input0/train.idx; prepare it"),
        (lambda d: shutil.rmtree(d), "bin: no such folder"),
    ],
)
def test_damaged_data_is_named(finetune, nli_bin, tmp_path, damage, message):
    shutil.copytree(nli_bin, tmp_path / "bin")
    damage(tmp_path / "bin")
    with pytest.raises(InputError, match=message):
        finetune("--max-update", "1", "--train-langs", "fr", "--code-switch", data=tmp_path / "bin")


def test_the_recipes_count_updates_as_training_makes_them(finetune, nli_bin):
    script = Path(__file__).resolve().parents[2] / "scripts" / "count_updates.py"
    flags = "--train-langs de,en,fr --code-switch --max-length 32 --batch-size 8 --max-epoch 2".split()
    command = [sys.executable, script, nli_bin, "--user-dir", "ppa_fairseq", "--task", "xnli_codeswitch", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == finetune(*flags, NO_VALIDATION)["optimizer_history"][-1]["num_updates"]


def test_another_training_in_the_same_folder_is_refused(finetune):
    """fairseq would resume it, and the user would not get the training of the flags."""
    finetune("--max-update", "2", NO_VALIDATION)
    with pytest.raises(InputError, match="was trained with --train-langs en, not de,en; set another --save-dir, or"):
        finetune("--train-langs", "de,en", "--max-update", "3", NO_VALIDATION)
