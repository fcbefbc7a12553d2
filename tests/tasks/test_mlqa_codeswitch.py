"""The task `mlqa_codeswitch` under fairseq-train: loss, exact resume, learning, bad input."""

import logging
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from helpers.qa_data import SHIFT, make_qa_bin
from helpers.training import QA, assert_same_training, run_training

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.tokenizer import write_files
from ppa_fairseq.checkpoints.weights import SPAN_HEAD, part
from ppa_fairseq.criterions.span_prediction import SpanPredictionCriterion
from ppa_fairseq.data.qa.corpora import load_qa
from ppa_fairseq.data.qa.dataset import QADataset
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.modules.bert import BertEncoder
from ppa_fairseq.modules.heads import SpanHead
from ppa_fairseq.modules.packing import pack
from ppa_fairseq.tasks.mlqa_codeswitch import MLQACodeswitchTask
from ppa_fairseq.utils.errors import InputError

SIZES = {"train": 60, "valid": 20}
SETTINGS = """
    --user-dir ppa_fairseq --cpu --optimizer adam --lr 1e-2 --batch-size 8
    --log-format simple --log-interval 4 --no-epoch-checkpoints --num-workers 0
""".split()
NO_VALIDATION = "--disable-validation"


@pytest.fixture(scope="module")
def qa_bin(tmp_path_factory, dictionary):
    return make_qa_bin(tmp_path_factory.mktemp("qa"), dictionary, SIZES)


@pytest.fixture
def finetune(qa_bin, imported, tmp_path):
    folder = imported()

    def run(*arguments, save_dir="checkpoints", data=qa_bin):
        return run_training([str(data), *SETTINGS, *QA, "--pretrained", str(folder), *arguments], tmp_path / save_dir)

    return run


def test_the_loss_equals_plain_float64(qa_bin, dictionary):
    """Window by window, over the context's tokens and [CLS]; the gradient, too."""
    layout = PairLayout(dictionary, 24)
    dataset = QADataset(load_qa(str(qa_bin), "train", ["en"]), [0], ["en"], layout, 6, seed=1)
    batch = dataset.collater([dataset[i] for i in range(20)])
    logits = torch.randn(batch["ntokens"], 2, requires_grad=True)
    loss, size, logged = SpanPredictionCriterion(None, None)(lambda **packed: logits, batch)
    loss.backward()
    free = logits.detach().double().requires_grad_()
    expected, correct, place = 0.0, 0, 0
    for window, length in enumerate(batch["net_input"]["lengths"]):
        allowed = [t for t in range(length) if batch["choices"][place + t]]
        hits = 0
        for side in (0, 1):
            scores = free[place : place + length, side][allowed]
            target = allowed.index(int(batch["target"][window, side]))
            expected = expected + (scores.logsumexp(0) - scores[target]) / 2
            hits += int(scores.argmax()) == target
        correct += hits == 2
        place += length
    expected.backward()
    assert size == logged["nsentences"] == 20 and int(logged["ncorrect"]) == correct
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(logits.grad.double(), free.grad, rtol=1e-5, atol=1e-6)


def evaluate(path, split, language, qa_bin, dictionary):
    """Mean loss in nats and percent of windows with both ends right, in a loop over windows."""
    trained = checkpoint.read(path)
    encoder, head = BertEncoder(trained.shape).eval(), SpanHead(trained.shape.dim)
    encoder.load_state_dict(part(trained.state, "encoder."))
    head.load_state_dict(part(trained.state, SPAN_HEAD))
    dataset = QADataset(load_qa(str(qa_bin), split, [language]), [0], [language], PairLayout(dictionary, 24), 6, 1)
    losses, correct = [], 0
    with torch.no_grad():
        for index in range(len(dataset)):
            item = dataset[index]
            logits = head(encoder(**pack([item["tokens"]], [item["token_types"]]))["hidden"])
            logits[~item["choices"]] = -torch.inf
            correct += logits.argmax(0).tolist() == item["target"].tolist()
            losses.append(torch.nn.functional.cross_entropy(logits.T, item["target"]).item())
    return np.mean(losses), 100 * correct / len(dataset)


def test_it_learns_and_validation_measures_how_much(finetune, qa_bin, dictionary, tmp_path):
    """From code-switched German and English; the average over languages chooses the best checkpoint."""
    metric = ["--best-checkpoint-metric", "accuracy_avg", "--maximize-best-checkpoint-metric", "--lr", "3e-3"]
    settings = ["--train-langs", "en,de", "--code-switch", "--dropout", "0", *metric]
    finetune(*settings, "--max-update", "1", "--lr", "0", save_dir="start")
    state = finetune(*settings, "--max-epoch", "8")
    start, last = (tmp_path / name / "checkpoint_last.pt" for name in ("start", "checkpoints"))
    by_language = [evaluate(last, "valid", language, qa_bin, dictionary)[1] for language in SHIFT]
    assert state["extra_state"]["val_loss"] == pytest.approx(np.mean(by_language), abs=0.02)
    for language in ("en", "de"):
        before, _ = evaluate(start, "train", language, qa_bin, dictionary)
        after, _ = evaluate(last, "train", language, qa_bin, dictionary)
        assert after < 0.75 * before


def test_a_resumed_training_equals_an_uninterrupted_one(finetune):
    """Stopped in the middle of an epoch, and in the next one; with accumulation, workers and dropout."""
    settings = ["--train-langs", "en,de,fr", "--code-switch", "--code-switch-prob", "0.5", "--batch-size", "32"]
    settings += ["--update-freq", "2", "--num-workers", "2", NO_VALIDATION]
    settings += ["--lr-scheduler", "polynomial_decay", "--total-num-update", "40"]
    whole = finetune("--max-update", "40", *settings, save_dir="whole")
    for stop in ("5", "22", "40"):
        parts = finetune("--max-update", stop, *settings, save_dir="parts")
    assert_same_training(whole, parts)


def test_pretrained_loads_the_head_of_a_fine_tuned_reader(finetune, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    state = finetune("--max-update", "2", NO_VALIDATION)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    again = finetune("--pretrained", str(last), "--max-update", "1", "--lr", "0", NO_VALIDATION, save_dir="again")
    assert torch.equal(again["model"][SPAN_HEAD + "weight"], state["model"][SPAN_HEAD + "weight"])
    assert "and the fine-tuned head" in caplog.text


def test_data_of_another_tokenizer_is_refused(finetune, qa_bin, imported, tmp_path):
    """With the same vocabulary: the data's tokenizer keeps capital letters, the model's does not."""
    shutil.copytree(qa_bin, tmp_path / "bin")
    tokenizer = checkpoint.read(imported()).tokenizer
    write_files(tokenizer | {"tokenizer_config.json": '{"do_lower_case": false}'}, tmp_path / "bin")
    with pytest.raises(InputError, match="has another tokenizer than the data, .* they differ in: normalizer; prepare"):
        finetune("--max-update", "1", data=tmp_path / "bin")
    write_files(tokenizer, tmp_path / "bin")
    finetune("--max-update", "1", NO_VALIDATION, data=tmp_path / "bin")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--doc-stride", "30"], "--max-length 24 with --doc-stride 30"),
        (["--max-length", "100", "--max-tokens", "16"], "a sequence of .* is over 16, the limit of the encoder or of"),
    ],
)
def test_bad_input_is_one_clear_line(finetune, arguments, message):
    with pytest.raises(InputError, match=message):
        finetune("--max-update", "1", *arguments)


def swap(folder):
    for kind in ("bin", "idx"):
        shutil.copy(folder / f"en/train.question.{kind}", folder / f"en/train.context.{kind}")


def rename_ids(path):
    path.write_text(path.read_text().replace("q", "other"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "en/train.ids.txt").write_text("q0\n"), "60 questions, 60 contexts, 60 answers, 1 ids"),
        (lambda d: (d / "en/train.ids.txt").unlink(), "train.ids.txt: no such file"),
        (lambda d: (d / "en/train.ids.txt").write_text("q\n" * 60), "two questions have the same id"),
        (lambda d: (d / "qa.json").unlink(), "qa.json: no such file"),
        (lambda d: (d / "dict.txt").unlink(), "dict.txt: no such file"),
        (lambda d: (d / "en/train.answer.bin").unlink(), "train.answer.bin and .idx: no such files"),
        (lambda d: (d / "en/train.context.bin").write_bytes(b"xx"), "train.context.bin and .idx: damaged"),
        (lambda d: [shutil.rmtree(d / x) for x in SHIFT], "no LANGUAGE/train.question.idx; "),
        (swap, "the answer of row 1 is not in its context"),
        (lambda d: rename_ids(d / "de/train.ids.txt"), "no question in de has the id of a question in en, so none can"),
    ],
)
def test_damaged_data_is_named(finetune, qa_bin, tmp_path, damage, message):
    shutil.copytree(qa_bin, tmp_path / "bin")
    damage(tmp_path / "bin")
    with pytest.raises(InputError, match=message):
        finetune("--max-update", "1", "--train-langs", "de", "--code-switch", NO_VALIDATION, data=tmp_path / "bin")


def test_window_sizes_come_with_the_data(qa_bin):
    settings = dict(data=str(qa_bin), train_langs="en", code_switch=False, code_switch_prob=1.0, seed=1)
    for given, expected in (((None, None), (24, 6)), ((30, None), (30, 6)), ((None, 0), (24, 0))):
        sizes = dict(zip(("max_length", "doc_stride"), given, strict=True))
        task = MLQACodeswitchTask.setup_task(Namespace(**settings, **sizes, code_switch_english="both"))
        assert (task.layout.room + task.layout.specials, task.cfg.doc_stride) == expected
