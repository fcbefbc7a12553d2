"""The task `xnli_codeswitch` under fairseq-train: --pretrained, exact resume, ranks, validation, bad input."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.nli_data import LABELS, SHIFT, make_nli_bin, rows
from helpers.ranks import train_on_ranks
from helpers.training import assert_same_training, run_training

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, SPAN_HEAD, Checkpoint
from ppa_fairseq.modules.bert import BertEncoder
from ppa_fairseq.modules.heads import ClassificationHead
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.tasks._finetuning_task import FinetuningTask
from ppa_fairseq.utils.errors import InputError

SIZES = {"train": 150, "valid": 45}
SETTINGS = """
    --user-dir ppa_fairseq --task xnli_codeswitch --arch ppa_bert_classifier --criterion sentence_prediction --cpu
    --optimizer adam --lr 1e-2 --batch-size 8 --max-length 32
    --log-format simple --log-interval 4 --no-epoch-checkpoints --num-workers 0
""".split()
NO_VALIDATION = "--disable-validation"


@pytest.fixture(scope="module")
def nli_bin(tmp_path_factory, dictionary):
    return make_nli_bin(tmp_path_factory.mktemp("nli"), dictionary, SIZES)


@pytest.fixture
def finetune(nli_bin, imported, tmp_path):
    """``finetune("--max-update", "6", …)`` fine-tunes a tiny imported BERT and returns the last checkpoint."""
    folder = imported()

    def run(*arguments, save_dir="checkpoints", data=nli_bin):
        return run_training([str(data), *SETTINGS, "--pretrained", str(folder), *arguments], tmp_path / save_dir)

    return run


def logits_of(state, premise, hypothesis):
    """Of one example alone, by the parts of the model: ids of words, without specials."""
    trained = state if isinstance(state, Checkpoint) else checkpoint.read(state)
    encoder = BertEncoder(trained.shape).eval()
    encoder.load_state_dict(checkpoint.part(trained.state, "encoder."))
    head = ClassificationHead(trained.shape.dim, len(trained.labels), 0.1).eval()
    head.load_state_dict(checkpoint.part(trained.state, CLASSIFICATION_HEAD))
    tokens = torch.tensor([7, *premise, 8, *hypothesis, 8])
    types = torch.tensor([0] * (len(premise) + 2) + [1] * (len(hypothesis) + 1))
    with torch.no_grad():
        packed = pack([tokens], [types])
        return head(pool(encoder(**packed)["hidden"], packed["cu_seqlens"], "cls"))[0]


def accuracy_of(path, language):
    trained, correct = checkpoint.read(path), 0
    examples = rows(SIZES["valid"], seed=len("valid"))
    for premise, hypothesis, label in examples:
        ids = [[10 + word + SHIFT[language] for word in side] for side in (premise, hypothesis)]
        correct += trained.labels[int(logits_of(trained, *ids).argmax())] == label
    return 100 * correct / len(examples)


def test_validation_logs_each_language_and_their_average(finetune, tmp_path):
    """Equal to a loop over the examples; the average chooses the best checkpoint."""
    metric = ["--best-checkpoint-metric", "accuracy_avg", "--maximize-best-checkpoint-metric"]
    state = finetune("--train-langs", "en,fr", "--max-epoch", "3", *metric)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    expected = {language: accuracy_of(last, language) for language in SHIFT}
    assert len(set(expected.values())) > 1
    assert state["extra_state"]["val_loss"] == pytest.approx(np.mean(list(expected.values())), abs=0.01)
    english = checkpoint.read(last)
    assert english.labels == list(LABELS) and CLASSIFICATION_HEAD + "dense.weight" in english.state
    # The same by fairseq-validate, with each language as a subset of its own.
    from unittest import mock

    from fairseq_cli import validate

    logged = {}
    bar = validate.progress_bar.SimpleProgressBar
    argv = ["fairseq-validate", state["cfg"]["task"]["data"], "--path", str(last), "--batch-size", "7", "--cpu"]
    argv += ["--user-dir", "ppa_fairseq", "--task", "xnli_codeswitch", "--valid-subset", "valid.de,valid.en,valid.fr"]
    with (
        mock.patch.object(bar, "print", lambda self, stats, **kwargs: logged.update(stats)),
        mock.patch.object(sys, "argv", [*argv, "--log-format", "simple"]),
    ):
        validate.cli_main()
    for language, accuracy in expected.items():
        assert logged[f"accuracy_{language}"] == pytest.approx(accuracy, abs=0.01)


def test_subsets_of_single_languages_add_up(finetune):
    """With valid.en first, English chooses; the last one's line has the average of all."""
    from unittest import mock

    from fairseq.logging.progress_bar import SimpleProgressBar

    lines = []
    metric = ["--best-checkpoint-metric", "accuracy_en", "--maximize-best-checkpoint-metric"]
    with mock.patch.object(SimpleProgressBar, "print", lambda self, stats, tag=None, step=None: lines.append(stats)):
        state = finetune("--max-epoch", "1", "--valid-subset", "valid.en,valid.de,valid.fr", *metric)
    last = [stats for stats in lines if "accuracy_fr" in stats][-1]
    by_language = [last[f"accuracy_{language}"] for language in SHIFT]
    assert last["accuracy_avg"] == pytest.approx(np.mean(by_language), abs=0.01)
    assert state["extra_state"]["val_loss"] == last["accuracy_en"]


def test_a_split_keeps_its_own_average():
    """It gets only the metric that chooses the best checkpoint from another split, if it lacks that."""
    task = SimpleNamespace(_accuracy={}, _best_metric=None, cfg=SimpleNamespace(best_checkpoint_metric="accuracy_fr"))
    task._names = lambda: [f"accuracy_{language}" for language in ("de", "en", "fr")]
    lines = {"valid": {"de": 40.0, "fr": 80.0}, "test": {"en": 84.0}}
    logged = {}
    for task._split, accuracies in lines.items():
        logged[task._split] = {f"accuracy_{language}": accuracy for language, accuracy in accuracies.items()}
        FinetuningTask.post_validate(task, None, logged[task._split], None)
    assert logged["valid"] == {"accuracy_de": 40.0, "accuracy_fr": 80.0, "accuracy_avg": 60.0}
    assert logged["test"] == {"accuracy_en": 84.0, "accuracy_avg": 84.0, "accuracy_fr": 80.0}


@pytest.mark.parametrize("extra", [[], ["--update-freq", "2", "--num-workers", "2"]], ids=["plain", "accumulated"])
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
    settings = ["--max-epoch", "2", "--dropout", "0", "--attention-dropout", "0", "--head-dropout", "0"]
    settings += ["--train-langs", "de,en", "--code-switch", "--best-checkpoint-metric", "accuracy_avg"]
    settings += ["--batch-size", "10"]
    one = finetune(*settings, "--update-freq", "2", save_dir="one")
    argv = [str(nli_bin), *SETTINGS, "--pretrained", str(imported()), *settings]
    done = train_on_ranks(2, argv, tmp_path / "two")
    assert [rank.exitcode for rank in done] == [0, 0], done[0].output[-3000:]
    two = torch.load(tmp_path / "two" / "checkpoint_last.pt", weights_only=True)
    assert one["optimizer_history"][-1]["num_updates"] == two["optimizer_history"][-1]["num_updates"]
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert one["extra_state"]["val_loss"] == pytest.approx(two["extra_state"]["val_loss"], abs=2.3)


def test_it_learns(finetune, tmp_path):
    """From translations and code-switching, to tell "not" in either language: well over a third."""
    settings = ["--dropout", "0", "--attention-dropout", "0", "--head-dropout", "0", "--lr", "3e-3", NO_VALIDATION]
    finetune("--train-langs", "en,de", "--code-switch", "--max-epoch", "10", *settings)
    trained = checkpoint.read(tmp_path / "checkpoints" / "checkpoint_last.pt")
    for languages in (("en", "de"), ("de", "en"), ("de", "de"), ("en", "en")):
        correct = 0
        for *sides, label in rows(60, seed=99):
            ids = [[10 + w + SHIFT[lang] for w in side] for side, lang in zip(sides, languages, strict=True)]
            correct += trained.labels[int(logits_of(trained, *ids).argmax())] == label
        assert correct >= 36, languages


def test_the_log_says_what_pretrained_gives(finetune, train, imported, tmp_path, monkeypatch, caplog):
    """Only the query encoder of an alignment."""
    caplog.set_level(logging.INFO)
    folder = imported()
    sized = ["--pretrained", str(folder)]
    aligned = train(*sized, "--max-update", "2", NO_VALIDATION, save_dir="aligned")
    path = tmp_path / "aligned" / "checkpoint_last.pt"
    state = finetune("--pretrained", str(path), "--max-update", "1", "--lr", "0", NO_VALIDATION)
    for name, weight in state["model"].items():
        if name.startswith("encoder."):
            assert torch.equal(weight, aligned["model"][name])
    assert "loaded the encoder (1 layers) and no head (a new one starts)" in caplog.text
    assert "not loaded: lm_head, momentum_encoder, projection, queue" in caplog.text
    # A fine-tuned one gives its head too, unless a new one is asked for.
    first = tmp_path / "checkpoints" / "checkpoint_last.pt"
    again = finetune("--pretrained", str(first), "--max-update", "1", "--lr", "0", NO_VALIDATION, save_dir="again")
    other = ["--pretrained", str(first), "--new-head", "--seed", "5"]
    anew = finetune(*other, "--max-update", "1", "--lr", "0", NO_VALIDATION, save_dir="anew")
    head = CLASSIFICATION_HEAD + "dense.weight"
    assert torch.equal(again["model"][head], state["model"][head])
    assert not torch.equal(anew["model"][head], state["model"][head])


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


def test_a_file_without_an_encoder_is_refused(finetune, tmp_path):
    torch.save({"model": {SPAN_HEAD + "bias": torch.zeros(2)}, "cfg": {"model": {}}}, tmp_path / "headless.pt")
    with pytest.raises(InputError, match="headless.pt: no checkpoint of this plugin"):
        finetune("--pretrained", str(tmp_path / "headless.pt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-langs", "en,sv"], "no training data in .sv., only in de, en, fr"),
        (["--train-langs", "en,"], "no training data in '', only in"),
        (["--code-switch"], "--code-switch mixes other languages with English; name some"),
        (["--train-langs", "en,de", "--code-switch", "--code-switch-prob", "0"], "--code-switch-prob 0.0 must be over"),
        (["--train-langs", "en,de", "--code-switch", "--batch-size", "1"], "2 sequences .* must share a batch"),
        (["--max-length", "7"], "--max-length 7 must be at least 8"),
        (["--max-length", "512", "--max-tokens", "9"], "is over 9, the limit of the encoder or of --max-tokens"),
        (["--train-subset", "valid"], "--train-subset: this task trains only on the split 'train'"),
        (["--valid-subset", "test"], "no test data; prepare some"),
        (["--valid-subset", "valid.sv"], "no valid data in .sv., only in de, en, fr"),
        (["--code-switch-prob", "0.5"], "need --code-switch; add it or omit them"),
        (["--code-switch-english", "first"], "need --code-switch; add it or omit them"),
        (["--best-checkpoint-metric", "accuracy_sv"], "accuracy_sv: valid, the first .*, logs accuracy_de, accuracy_"),
        (["--best-checkpoint-metric", "acuracy"], "acuracy: valid, the first split of .*, logs accuracy_de"),
        (
            ["--valid-subset", "valid.en,valid.fr", "--best-checkpoint-metric", "accuracy_avg"],
            "accuracy_avg: valid.en, the first split of --valid-subset, logs accuracy_en, accuracy, loss",
        ),
        (["--valid-subset", "valid.en,valid.fr", "--best-checkpoint-metric", "accuracy_fr"], "accuracy_fr: valid.en,"),
    ],
)
def test_bad_input_is_one_clear_line(finetune, arguments, message):
    with pytest.raises(InputError, match=message):
        finetune("--max-update", "1", *arguments)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: shutil.rmtree(d / "fr" / "label"), "fr/label/dict.txt: no such file"),
        (lambda d: (d / "fr/label/train.idx").unlink(), "fr/label/train.bin and .idx: no such file"),
        (lambda d: replace(d, "fr/input1/train", "fr/input1/valid"), "150 premises, 45 hypotheses, 150 labels"),
        (lambda d: replace(d, "fr/label/train", "fr/input0/train"), "fr/label/train: row 1 is not one label"),
        (lambda d: replace(d, "fr/label/valid", "fr/input1/valid"), "row [23] is not one label"),
        (lambda d: [replace(d, f"fr/{p}/train", f"fr/{p}/valid") for p in PARTS], "45 rows in fr, but 150 in en"),
        (lambda d: append(d / "fr/label/dict.txt", "other 1\n"), "fr/label/dict.txt differs from"),
        (lambda d: append(d / "fr/input1/dict.txt", "other 1\n"), "fr/input1/dict.txt differs from"),
        (lambda d: (d / "fr/input0/train.bin").write_bytes(b"\0" * 50), "fr/input0/train.bin and .idx: damaged"),
        (lambda d: shutil.rmtree(d / "en"), "no training data in .en., only in de, fr"),
    ],
)
def test_damaged_data_is_named(finetune, nli_bin, tmp_path, damage, message):
    shutil.copytree(nli_bin, tmp_path / "bin")
    damage(tmp_path / "bin")
    with pytest.raises(InputError, match=message):
        finetune("--max-update", "1", "--train-langs", "fr", "--code-switch", data=tmp_path / "bin")


PARTS = ("input0", "input1", "label")


def replace(folder, name, source):
    for kind in ("bin", "idx"):
        shutil.copy(folder / f"{source}.{kind}", folder / f"{name}.{kind}")


def append(path, text):
    path.write_text(path.read_text() + text)


def test_no_data_at_all(finetune, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        finetune(data=tmp_path / "nowhere")
    with pytest.raises(InputError, match="no LANGUAGE/input0/train.idx; prepare it"):
        finetune(data=tmp_path)


@pytest.mark.parametrize("mode", [["--train-langs", "en"], ["--train-langs", "de,en,fr", "--code-switch"]])
def test_the_recipes_count_updates_as_training_makes_them(finetune, nli_bin, mode):
    script = Path(__file__).resolve().parents[2] / "scripts" / "count_updates.py"
    flags = [*mode, "--max-length", "32"]
    command = [sys.executable, str(script), str(nli_bin), "--user-dir", "ppa_fairseq", "--task", "xnli_codeswitch"]
    command += ["--batch-size", "8", "--max-epoch", "2"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    state = finetune(*flags, "--max-epoch", "2", NO_VALIDATION)
    assert int(done.stdout) == state["optimizer_history"][-1]["num_updates"]


def test_another_training_in_the_same_folder_is_refused(finetune, tmp_path):
    """fairseq would resume it, and the user would not get the training of the flags."""
    finetune("--max-update", "2", NO_VALIDATION)
    with pytest.raises(InputError, match="was trained with --train-langs en, not de,en; set another --save-dir, or"):
        finetune("--train-langs", "de,en", "--max-update", "3", NO_VALIDATION)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    flags = ["--train-langs", "de,en", "--restore-file", str(last)]
    assert finetune(*flags, "--max-update", "3", NO_VALIDATION)["optimizer_history"][-1]["num_updates"] == 3
