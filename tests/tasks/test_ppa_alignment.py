"""The task `ppa_alignment` under fairseq-train: exact resume, queue, validation, pretrained encoders, bad input."""

import logging
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils
from fairseq_cli import validate
from helpers.training import TINY_ALIGNMENT, assert_same_training

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.data.bitext.corpora import load_corpora
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.tasks.ppa_alignment import PPAAlignmentTask
from ppa_fairseq.utils.errors import InputError

NO_VALIDATION = "--disable-validation"
HEADLESS = ["--projection-head", "none", "--pooling", "mean", "--tlm-weight", "0"]
OBJECTIVES = {
    "plain": [],
    "accumulated": ["--update-freq", "2", "--num-workers", "2"],
    "fused": ["--optimizer", "fused_adamw", "--weight-decay", "0.01", "--clip-norm", "1"],
    "frozen embeddings": ["--freeze-embeddings", "--weight-decay", "0.1"],
    "LoRA": ["--lora-rank", "2", "--optimizer", "fused_adamw", "--weight-decay", "0.01"],
    "in-batch": ["--negatives", "in-batch", *HEADLESS],
    "both negatives": ["--negatives", "both", *HEADLESS],
}


@pytest.mark.parametrize("flags", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_resumed_training_equals_an_uninterrupted_one(train, flags):
    """Stopped in the middle of an epoch, and in the next one; with dropout, accumulation and workers."""
    if "--lora-rank" in flags:
        pytest.importorskip("peft", reason="needs peft: pip install peft")
    settings = [*flags, NO_VALIDATION, "--lr-scheduler", "polynomial_decay", "--total-num-update", "18"]
    whole = train("--max-update", "18", *settings, save_dir="whole")
    for stop in ("5", "11", "18"):
        parts = train("--max-update", stop, *settings, save_dir="parts")
    assert_same_training(whole, parts)
    assert ("queue.keys" in whole["model"]) == ("in-batch" not in flags)


@pytest.mark.parametrize("optimizer", ["adam", "fused_adamw"])
def test_frozen_weights_stay_and_have_no_optimizer_state(train, imported, optimizer):
    """Whatever the weight decay; the layer, the heads and the momentum encoder's copy of the layer move."""
    flags = ["--train-layers", "1", "--optimizer", optimizer, "--weight-decay", "0.1", "--lr-scheduler", "fixed"]
    base = imported(layers=2)
    before = checkpoint.read(base).state
    arguments = ["--encoder-layers", "2", "--max-update", "3", *flags, NO_VALIDATION]
    trained = train(*arguments, "--pretrained", str(base))
    after, states = trained["model"], trained["last_optimizer_state"]["state"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith(("encoder.layers.1.", "lm_head."))}
    trainable = moved | {name for name in after if name.startswith("projection.")}
    assert [value["exp_avg"].shape for value in states.values()] == [
        weight.shape for name, weight in after.items() if name in trainable
    ]
    own = {name for name in after if name.startswith("momentum_encoder.encoder.")}
    assert own == {f"momentum_encoder.{name}" for name in moved if name.startswith("encoder.")}
    assert not any(torch.equal(after[name], before[name.removeprefix("momentum_encoder.")]) for name in own)
    with pytest.raises(InputError, match="trained with --train-layers 1, not 0; .*, or add --reset-optimizer"):
        train(*arguments, "--pretrained", str(base), "--train-layers", "0", "--max-update", "4")


def test_without_a_rank_adapters_cost_nothing(train, monkeypatch):
    """Not even peft."""
    monkeypatch.setitem(sys.modules, "peft", None)
    settings = ["--max-update", "3", NO_VALIDATION]
    plain = train(*settings, save_dir="plain")
    assert_same_training(plain, train(*settings, "--lora-rank", "0", "--lora-alpha", "16", save_dir="zero"))
    with pytest.raises(InputError, match="--lora-rank needs peft, which is not installed; run: pip install peft"):
        train(*settings, "--lora-rank", "2", save_dir="two")


def test_adapters_of_another_shape_are_refused(train, tmp_path):
    pytest.importorskip("peft", reason="needs peft: pip install peft")
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    train("--max-update", "1", "--lora-rank", "2", NO_VALIDATION)
    message = f"{last} was trained %s; to start from it, set another --save-dir and --pretrained {last}"
    for flags in ([], ["--reset-optimizer"], ["--restore-file", str(last)]):
        with pytest.raises(InputError, match=message % "with --lora-rank 2, not without --lora-rank"):
            train("--max-update", "2", *flags)
        with pytest.raises(InputError, match=message % "with --lora-rank 2, not with --lora-rank 3"):
            train("--max-update", "2", "--lora-rank", "3", *flags)
        with pytest.raises(InputError, match=message % "without --train-layers, not with --train-layers 0"):
            train("--max-update", "2", "--lora-rank", "2", "--train-layers", "0", *flags)
    with pytest.raises(InputError, match="--freeze-encoder trains nothing in the encoder, --lora-rank adapters; omit"):
        train("--lora-rank", "2", "--freeze-encoder", "--contrastive-weight", "0", save_dir="neither")


def test_a_whole_training_may_end_with_a_part(train, tmp_path):
    """The momentum encoder then shares the query's weights: nothing of its own may overwrite them."""
    whole = train("--max-update", "2", NO_VALIDATION)["model"]
    last = str(tmp_path / "checkpoints" / "checkpoint_last.pt")
    still = ["--restore-file", last, "--reset-optimizer", "--reset-dataloader", "--max-update", "1", "--lr", "0"]
    part = train(*still, "--freeze-embeddings", NO_VALIDATION, save_dir="part")["model"]
    for name in part.keys() - {"queue.keys", "queue.pivots", "queue.next_slot", "queue.filled"}:
        if not name.startswith("momentum_encoder."):
            assert torch.equal(part[name], whole[name]), name
    assert not torch.equal(whole["momentum_encoder.encoder.embed_tokens.weight"], whole["encoder.embed_tokens.weight"])


def test_workers_change_nothing(train):
    """Two epochs: workers must not keep the masks of the first."""
    settings = ["--max-epoch", "2", NO_VALIDATION]
    alone = train(*settings, save_dir="alone")
    assert_same_training(alone, train(*settings, "--num-workers", "2", save_dir="workers"))


@pytest.mark.parametrize("flags", [["--queue-size", "200"], ["--tlm-weight", "0"]], ids=["large", "without TLM"])
def test_the_queue_holds_exactly_the_trained_pairs(train, flags):
    """An epoch of 115 pairs, the last batch of 3 among them; validation adds nothing."""
    model = train("--max-epoch", "1", *flags)["model"]
    size = len(model["queue.keys"])
    filled = min(115, size)
    assert (int(model["queue.filled"]), int(model["queue.next_slot"])) == (filled, 115 % size)
    torch.testing.assert_close(model["queue.keys"][:filled].norm(dim=1), torch.ones(filled))


def test_validation_and_fairseq_validate_report_retrieval_over_the_whole_split(train, data_bin, tmp_path, monkeypatch):
    """The value that chooses the best checkpoint equals a loop over the split's sentences, one by one."""
    metric = ["--best-checkpoint-metric", "retrieval", "--maximize-best-checkpoint-metric"]
    state = train("--max-epoch", "2", "--pooling", "mean", *metric)
    last = str(tmp_path / "checkpoints" / "checkpoint_last.pt")
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([last])
    model.eval()

    def vector(tokens):
        packed = pack([torch.cat([torch.tensor([7]), tokens])])  # 7 is [CLS]
        return F.normalize(pool(model.encoder(**packed)["hidden"], packed["cu_seqlens"], "mean")[0], dim=0)

    accuracies = []
    with torch.no_grad():
        for corpus in load_corpora(str(data_bin), "valid", ["de-en", "fr-en"], all_needed=True):
            source, target = (torch.stack([vector(row) for row in side]) for side in (corpus.source, corpus.target))
            for scores in (source @ target.T, target @ source.T):
                found = [int(row.argmax()) == number for number, row in enumerate(scores)]
                accuracies.append(100 * sum(found) / len(found))
    expected = pytest.approx(sum(accuracies) / len(accuracies), abs=0.01)
    assert state["extra_state"]["val_loss"] == expected

    reported = []
    flags = "--batch-size 5 --cpu --log-format simple --user-dir ppa_fairseq --task ppa_alignment"
    monkeypatch.setattr(sys, "argv", ["fairseq-validate", str(data_bin), "--path", last, *flags.split()])
    bar = validate.progress_bar.SimpleProgressBar
    monkeypatch.setattr(bar, "print", lambda self, stats, **kwargs: reported.append(stats["retrieval"]))
    validate.cli_main()
    assert reported == [expected]


CONTRASTIVE = ("projection.", "momentum_encoder.", "queue.")
TLM_ALONE = ["--contrastive-weight", "0"]


def test_a_resumed_training_may_leave_the_contrastive_loss_out_or_begin_it(train, caplog):
    """Without it there is no momentum encoder, also after a validation; one that begins starts as the query encoder."""
    caplog.set_level(logging.INFO)
    both = train("--max-update", "2", NO_VALIDATION)["model"]
    with pytest.raises(InputError, match="with --contrastive-weight 1.0, not 0.0; .* add --reset-optimizer"):
        train("--max-update", "4", *TLM_ALONE, NO_VALIDATION)
    still = ["--max-update", "1", "--lr", "0", "--reset-optimizer", "--reset-dataloader"]
    alone = train(*still, *TLM_ALONE)["model"]
    assert "does not use the checkpoint's momentum_encoder, projection, queue" in caplog.text
    assert alone.keys() == {name for name in both if not name.startswith(CONTRASTIVE)}
    again = train(*still, NO_VALIDATION)["model"]
    assert "copy the query encoder, and start with an empty queue" in caplog.text
    for name, tensor in alone.items():
        assert torch.equal(tensor, both[name]) and torch.equal(again[name], tensor), name
        if name.startswith("encoder."):
            assert torch.equal(again[f"momentum_encoder.{name}"], tensor), name
    assert int(again["queue.filled"]) == 8


def test_the_loss_of_a_validation_does_not_depend_on_the_update(train):
    """As its batches would be weighted otherwise by update: here nothing is learned, by one micro-batch or three."""
    settings = ["--max-update", "1", "--lr", "0", "--contrastive-weight", "0"]
    losses = [train(*settings, "--update-freq", n, save_dir=n)["extra_state"]["val_loss"] for n in ("1", "3")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("pivot", "named"), [("de", "de-en by de, fr-en by fr"), ("en", None)])
def test_pairs_without_a_common_language_cause_a_warning(train, caplog, pivot, named):
    train("--max-update", "1", NO_VALIDATION, "--pivot", pivot)
    assert ("count as negatives of each other" in caplog.text) == bool(named)
    assert (named or "") in caplog.text


def test_xlm_style_tlm_trains_language_embeddings(train):
    state = train("--max-update", "3", "--tlm-reset-positions", "--tlm-language-embeddings")
    table = state["model"]["language_embeddings.weight"]  # (1 + 3, 16)
    assert table.shape == (4, 16) and table[0].abs().max() == 0 and (table[1:].abs().max(dim=1).values > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lang-pairs", "de-en,sv-en"], "no language pair sv-en; the folder holds de-en, fr-en"),
        (["--queue-size", "6"], "--queue-size 6 is smaller than the 8 pairs of one update"),
        (["--pretrained", "nowhere"], "nowhere: no such checkpoint"),
        (["--max-positions", "12"], "pairs have over 12 tokens, the limit of the encoder"),
        (["--max-tokens", "4"], "pairs have over 4 tokens"),
        (["--freeze-encoder"], "--freeze-encoder trains only the MLM head; add --contrastive-weight 0"),
        (["--token-types", "1"], "the second sentence of a pair needs token type 1"),
        (["--train-subset", "valid"], "--train-subset: this task trains only on the split 'train'"),
        (
            ["--contrastive-weight", "0", "--best-checkpoint-metric", "contrastive_acc"],
            "contrastive_acc: valid, the first split of --valid-subset, logs .*, loss, tlm, tlm_acc; choose",
        ),
        (["--valid-subset", "test"], "the test split of de-en, fr-en is empty or missing"),
    ],
)
def test_bad_input_is_one_clear_line(train, arguments, message):
    with pytest.raises(InputError, match=message):
        train("--max-update", "1", *arguments)


def test_every_metric_of_a_validation_can_choose_the_best_checkpoint(train, monkeypatch):
    import fairseq_cli.train

    logged, tasks, stats_of, begin = {}, [], fairseq_cli.train.get_valid_stats, PPAAlignmentTask.begin_epoch
    monkeypatch.setattr(fairseq_cli.train, "get_valid_stats", lambda *args: logged.update(args[2]) or stats_of(*args))
    monkeypatch.setattr(PPAAlignmentTask, "begin_epoch", lambda *args: tasks.append(args[0]) or begin(*args))
    state = train("--max-update", "2", "--best-checkpoint-metric", "retrieval_fr-en")
    assert state["extra_state"]["best"] == logged["retrieval_fr-en"]
    assert logged.keys() - {"wps", "wpb", "bsz", "ups", "num_updates", "_pairs"} == set(tasks[0].metrics_of("valid"))


def test_a_missing_or_damaged_file_is_named(train, data_bin, tmp_path):
    damaged = shutil.copytree(data_bin, tmp_path / "bin")
    french, dictionary = damaged / "train.fr-en.fr.bin", damaged / "dict.fr.txt"

    def copy_german():
        for ending in (".bin", ".idx"):
            shutil.copy(data_bin / f"train.de-en.de{ending}", french.with_suffix(ending))

    for damage, message in (
        (lambda: french.write_bytes(french.read_bytes()[:99]), "train.fr-en.fr.bin and .idx: damaged"),
        (french.unlink, "train.fr-en.fr.bin and .idx: no such files"),
        (copy_german, "has 75 sentences but .* has 40"),
        (lambda: dictionary.write_text(dictionary.read_text() + "more 1\n"), "dict.fr.txt differs from"),
        (lambda: shutil.rmtree(damaged), "bin: no such folder"),
    ):
        damage()
        with pytest.raises(InputError, match=message):
            train("--max-update", "1", data=damaged)


WITHOUT_SIZES = ["--arch", "ppa_bert", *TINY_ALIGNMENT]


def test_query_and_momentum_encoder_start_from_pretrained(train, imported, monkeypatch):
    """At learning rate 0 nothing moves; sizes and tokenizer go into the checkpoint."""
    monkeypatch.setattr("helpers.training.TINY_TRAINING", WITHOUT_SIZES)
    folder = imported()
    state = train("--pretrained", str(folder), "--max-update", "1", "--lr", "0", NO_VALIDATION)
    start = checkpoint.read(folder)
    for name, weight in start.state.items():
        assert torch.equal(state["model"][name], weight), name
        if name.startswith("encoder."):
            assert torch.equal(state["model"][f"momentum_encoder.{name}"], weight), name
    assert state["cfg"]["model"]["encoder_embed_dim"] == 16
    assert state["task_state"]["tokenizer"] == start.tokenizer


@pytest.mark.parametrize("extra", [[], ["--tlm-reset-positions", "--tlm-language-embeddings"]])
def test_with_a_frozen_encoder_only_the_mlm_head_learns(train, imported, extra):
    same = ["--pretrained", str(imported()), "--contrastive-weight", "0", *extra, NO_VALIDATION]
    frozen = ["--freeze-encoder", *same]
    one, more = (train(*frozen, "--max-update", updates, save_dir=updates)["model"] for updates in ("1", "3"))
    assert {name.split(".")[0] for name in one if not torch.equal(one[name], more[name])} == {"lm_head"}
    start = checkpoint.read(imported()).state
    assert all(torch.equal(more[name], start[name]) for name in start if name.startswith("encoder."))
    with pytest.raises(InputError, match="was trained with --freeze-encoder True, not False; set another --save-dir"):
        train(*same, "--max-update", "4", save_dir="3")


def test_of_an_alignment_only_the_query_encoder_is_pretrained(train, imported, tmp_path):
    first = train("--pretrained", str(imported()), "--max-update", "3", NO_VALIDATION)["model"]
    last = str(tmp_path / "checkpoints" / "checkpoint_last.pt")
    second = train("--pretrained", last, "--max-update", "1", "--lr", "0", NO_VALIDATION, save_dir="second")["model"]
    for name in ("encoder.layers.0.fc1.weight", "projection.fc1.weight"):
        assert torch.equal(second[name], first[name]) == name.startswith("encoder.")
        assert torch.equal(second[f"momentum_encoder.{name}"], second[name])
    assert int(second["queue.filled"]) == 8


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda s: s[:-1], [], "has 209 tokens, and they are not the 210 of the data"),
        (lambda s: [*s[:-2], s[-1], s[-2]], [], "has 210 tokens, and they are not the 210 of the data"),
        (lambda s: s, ["--encoder-layers", "2"], "--encoder-layers is 2 .* but --pretrained .* has 1"),
    ],
    ids=["fewer tokens", "other order", "other depth"],
)
def test_a_pretrained_encoder_that_does_not_fit(train, imported, dictionary, change, arguments, message):
    folder = imported(change(dictionary.symbols))
    with pytest.raises(InputError, match=message):
        train("--pretrained", str(folder), "--max-update", "1", *arguments)


def test_sizes_must_come_from_somewhere(train, monkeypatch):
    monkeypatch.setattr("helpers.training.TINY_TRAINING", WITHOUT_SIZES)
    with pytest.raises(InputError, match="sizes are not set: give --pretrained, which has them, or --encoder-layers"):
        train("--max-update", "1")


def test_a_checkpoint_stands_alone(train, imported, tmp_path):
    """fairseq's own loader, which fairseq-validate uses, and ours need no other file."""
    folder = imported()
    state = train("--pretrained", str(folder), "--max-update", "2", NO_VALIDATION)
    shutil.rmtree(folder)
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(last)])
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, state["model"][name]), name
    assert len(task.dictionary) == 210
    encoder, tokenizer = checkpoint.load_encoder(last)
    assert torch.equal(encoder.embed_tokens.weight, state["model"]["encoder.embed_tokens.weight"])
    assert tokenizer.token_to_id("w5") == 15
