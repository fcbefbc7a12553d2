"""What is not finite is named: the update, the part of the loss, the pairs and the weights."""

import logging
import re

import pytest
import torch
from fairseq.trainer import Trainer
from helpers.nli_data import make_nli_bin, rows
from helpers.qa_data import make_qa_bin, questions
from helpers.training import NLI, QA, TINY_FINETUNING, run_training

from ppa_fairseq.data.bitext.corpora import load_corpora
from ppa_fairseq.models.finetuned import FinetunedModel
from ppa_fairseq.models.ppa import PPAModel
from ppa_fairseq.utils.errors import InputError

NO_VALIDATION = "--disable-validation"
AT_ONCE = ["--min-loss-scale", "100"]  # of a scale of 128 at the start: no overflow is let pass
PRECISIONS = {
    "fp32": [],
    "bf16": ["--bf16"],
    "memory-efficient-bf16": ["--memory-efficient-bf16"],
    "fp16": ["--fp16", *AT_ONCE],
    "memory-efficient-fp16": ["--memory-efficient-fp16", *AT_ONCE],
    "amp": ["--amp", *AT_ONCE],
}
PARTS = r"the ((?:gradient of the )?[\w-]+) loss is not finite on (\d+) of (\d+) items "
PARTS += r"\(([^)]*)\)"


@pytest.fixture(params=PRECISIONS.values(), ids=PRECISIONS)
def precision(request, scaling_on_cpu):
    """The flags of one way to calculate."""
    return request.param


@pytest.fixture
def seen(monkeypatch):
    """The training batches, in the order in which the model saw them."""
    from ppa_fairseq.criterions.ppa import PPACriterion

    batches, forward = [], PPACriterion.forward
    monkeypatch.setattr(PPACriterion, "forward", lambda *args: batches.append(args[2]) or forward(*args))
    return batches


@pytest.fixture
def start_with(monkeypatch):
    """``start_with(change)`` lets *change* have every newly built model."""

    def arrange(change):
        build = PPAModel.build_model.__func__

        def built(cls, cfg, task):
            model = build(cls, cfg, task)
            with torch.no_grad():
                change(model)
            return model

        monkeypatch.setattr(PPAModel, "build_model", classmethod(built))

    return arrange


def origins(data_bin, batch):
    """Where each pair of *batch* stands in the data, found by its text."""
    rows = {}
    for corpus in load_corpora(str(data_bin), "train", ["de-en", "fr-en"], all_needed=True):
        for number in range(len(corpus.source)):
            sides = (tuple(corpus.source[number].tolist()), tuple(corpus.target[number].tolist()))
            rows[sides] = f"{corpus.name} row {number + 1}"
    sides = [
        [tuple(part[1:].tolist()) for part in packed["tokens"].split(packed["lengths"])]
        for packed in (batch["net_input"]["query_input"], batch["net_input"]["key_input"])
    ]
    return [
        rows[(key, query) if swap else (query, key)]
        for query, key, swap in zip(sides[0][: len(sides[1])], sides[1], batch["swapped"].tolist(), strict=True)
    ]


def broken_items(message):
    """Part -> (items named, how many broke, size of the batch)."""
    return {m[1]: (m[4].split(", "), int(m[2]), int(m[3])) for m in re.finditer(PARTS, message)}


def test_a_broken_weight_names_the_pairs_that_read_it(train, data_bin, seen, start_with, precision):
    """Row 19 of the position table: sequences of 20 tokens and more read it; those are TLM's, of the longer pairs."""
    start_with(lambda model: model.encoder.embed_positions.weight[19].fill_(float("nan")))
    micro_batches = 1 if precision else 2
    with pytest.raises(InputError) as caught:
        train("--max-epoch", "1", NO_VALIDATION, "--batch-size", "16", "--update-freq", str(micro_batches), *precision)
    message, batch = str(caught.value), seen[-1]  # the search ends at the first batch that has one
    lengths, pairs = batch["net_input"]["query_input"]["lengths"], batch["nsentences"]
    expected = [name for name, length in zip(origins(data_bin, batch), lengths[pairs:], strict=True) if length > 19]
    assert 0 < len(expected) < pairs and max(lengths[:pairs]) <= 19
    assert broken_items(message) == {"tlm": ([*expected[:8], *["…"] * (len(expected) > 8)], len(expected), pairs)}
    earlier = [batch for batch in seen if max(batch["net_input"]["query_input"]["lengths"]) <= 19]
    assert len(earlier) >= micro_batches
    update = 1 + next(i for i, b in enumerate(seen) if b["id"].tolist() == batch["id"].tolist()) // micro_batches
    assert message.startswith(f"update {update}: ") and update > 1
    table = "encoder.embed_positions.weight"
    assert f"; weights not finite before it: {table}, momentum_encoder.{table}. " in message


def test_a_broken_weight_of_a_frozen_encoder_is_named_as_well(train, start_with):
    start_with(lambda model: model.encoder.embed_positions.weight[19].fill_(float("nan")))
    frozen = ["--freeze-encoder", "--contrastive-weight", "0", NO_VALIDATION]
    with pytest.raises(InputError, match=r"the tlm loss is not finite .* before it: encoder.embed_positions.weight\."):
        train("--max-epoch", "1", *frozen)


def test_the_shard_of_the_pairs_is_named(train, data_bin, tmp_path, start_with):
    (tmp_path / "other").symlink_to(data_bin)
    start_with(lambda model: model.encoder.embed_positions.weight.fill_(float("nan")))
    with pytest.raises(InputError) as caught:
        train("--max-epoch", "1", NO_VALIDATION, "--tlm-weight", "0", data=f"{tmp_path / 'other'}:{data_bin}")
    ((named, _, _),) = broken_items(str(caught.value)).values()
    assert all(re.fullmatch(rf"(de|fr)-en row \d+ of {tmp_path / 'other'}", name) for name in named), named


def test_the_contrastive_part_is_named_by_itself(train, data_bin, seen, start_with):
    """A word whose vector is broken, by the second update in the momentum encoder too: pairs with it on either side.

    Without TLM, whose head reads all vectors.
    """
    start_with(lambda model: model.encoder.embed_tokens.weight[15].fill_(float("inf")))
    with pytest.raises(InputError) as caught:
        train("--max-epoch", "1", NO_VALIDATION, "--tlm-weight", "0")
    words = [
        packed["tokens"].split(packed["lengths"])
        for packed in (seen[-1]["net_input"]["query_input"], seen[-1]["net_input"]["key_input"])
    ]
    has_it = [15 in query or 15 in key for query, key in zip(*words, strict=True)]
    expected = [name for name, broken in zip(origins(data_bin, seen[-1]), has_it, strict=True) if broken]
    assert str(caught.value).startswith("update 2: ")
    assert broken_items(str(caught.value)) == {"contrastive": (expected, len(expected), 8)}


def test_a_broken_gradient_is_not_called_a_broken_loss(train, data_bin, seen, monkeypatch, caplog, precision):
    """From the third batch on, the gradient at the fourth query's vector is infinite; the losses are not."""
    caplog.set_level(logging.INFO)
    forward, calls = PPAModel.forward, []

    def infinite(gradient):
        return gradient.index_fill(0, torch.tensor([3]), float("inf"))

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        calls.append(output)
        if len(calls) > 2:
            output["query"].register_hook(infinite)
        return output

    monkeypatch.setattr(PPAModel, "forward", broken)
    with pytest.raises(InputError, match="^update 3: .*\\)\\. Decrease --lr, set --clip-norm") as caught:
        train("--max-epoch", "1", NO_VALIDATION, *precision)
    assert broken_items(str(caught.value)) == {"gradient of the contrastive": ([origins(data_bin, seen[-1])[3]], 1, 8)}
    assert "gradients: {" not in caplog.text  # fairseq's dump of them all


@pytest.mark.parametrize(
    ("mode", "halvings"), [("--fp16", 1), ("--memory-efficient-fp16", 1), ("--amp", 3)], ids=lambda value: str(value)
)
def test_a_lone_bad_pair_is_an_overflow_until_the_scale_is_at_its_minimum(
    train, data_bin, seen, monkeypatch, caplog, scaling_on_cpu, mode, halvings
):
    """Its batch is skipped, in each epoch again, and the pair is not named; --amp tries it three times."""
    caplog.set_level(logging.INFO)
    forward = PPAModel.forward

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        place = (seen[-1]["id"] == 5).nonzero()[:, 0]
        output["query"].register_hook(lambda gradient: gradient.index_fill(0, place, float("inf")))
        return output

    monkeypatch.setattr(PPAModel, "forward", broken)
    state = train("--max-epoch", "2", NO_VALIDATION, mode)
    assert state["optimizer_history"][-1]["num_updates"] == 2 * (15 - 1) and len(seen) == 2 * (15 - 1 + halvings)
    assert "de-en row" not in caplog.text
    lowest = 128 / 2 ** (2 * halvings)
    with pytest.raises(InputError) as caught:
        train("--max-epoch", "2", NO_VALIDATION, mode, "--min-loss-scale", str(lowest), save_dir="other")
    ((part, named),) = broken_items(str(caught.value)).items()
    assert part == "gradient of the contrastive" and named == (["de-en row 6"], 1, 8)


def test_what_no_pair_broke_remains_fairseqs_error(train, start_with):
    """As a sum that overflows."""
    start_with(lambda model: model.lm_head.bias.register_hook(lambda gradient: gradient * float("nan")))
    with pytest.raises(FloatingPointError, match="gradients are Nan/Inf"):
        train("--max-epoch", "1", NO_VALIDATION)


@pytest.mark.parametrize("dummies", [False, True])
def test_the_search_repeats_the_dropout_of_the_update_that_failed(train, seen, monkeypatch, dummies):
    """Bit for bit, in both micro-batches, and if the first is a dummy: only so does it meet what the update met."""
    from torch.nn import Dropout

    masks, dropout, forward = [], Dropout.forward, PPAModel.forward

    def record(self, x):
        masks.append(dropout(self, torch.ones_like(x)))
        return x * masks[-1]

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        if len(seen) > 4 and len(seen) % 2 == 0:  # from the third update on, in its second batch
            output["query"].register_hook(lambda gradient: gradient * float("inf"))
        return output

    monkeypatch.setattr(Dropout, "forward", record)
    monkeypatch.setattr(PPAModel, "forward", broken)
    if dummies:  # fairseq makes one of a sample without content
        train_step = Trainer.train_step
        monkeypatch.setattr(Trainer, "train_step", lambda self, pair: train_step(self, [{}, pair[1]]))
    with pytest.raises(InputError, match="^update 3: "):
        train("--max-epoch", "1", NO_VALIDATION, "--update-freq", "2")
    assert [len(batch["id"]) for batch in seen[4:6]] == [len(batch["id"]) for batch in seen[6:]] == [8, 8]
    half = len(masks) // 8 * 2
    assert len(masks) == 4 * half and any((mask == 0).any() for mask in masks[-half:])
    for first, again in zip(masks[2 * half : 3 * half], masks[3 * half :], strict=True):
        assert torch.equal(first, again)


@pytest.mark.parametrize("mode", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("task", [NLI, QA], ids=["xnli", "mlqa"])
def test_fine_tuning_names_its_rows(dictionary, imported, tmp_path, monkeypatch, scaling_on_cpu, task, mode):
    """Sequences of 13 tokens and more read the broken row of the position table."""
    start_from = FinetunedModel.start_from

    def break_after(model, pretrained):
        start_from(model, pretrained)
        with torch.no_grad():
            model.encoder.embed_positions.weight[12] = float("nan")

    monkeypatch.setattr(FinetunedModel, "start_from", break_after)
    if task == NLI:
        data = make_nli_bin(tmp_path, dictionary, {"train": 40})
        long = [len(premise) + len(hypothesis) + 3 > 12 for premise, hypothesis, _ in rows(40, seed=len("train"))]
    else:
        data = make_qa_bin(tmp_path, dictionary, {"train": 40})
        long = [len(context) + 5 > 12 for _, context, _ in questions(40, seed=len("train"))]
    settings = [*TINY_FINETUNING, *task, *PRECISIONS[mode], "--pretrained", str(imported())]
    with pytest.raises(InputError) as caught:
        run_training([str(data), *settings], tmp_path / "checkpoints")
    ((part, (named, count, size)),) = broken_items(str(caught.value)).items()
    assert part == "fine-tuning" and 0 < count <= size == 8 and len(named) == count
    assert all(long[int(re.match(r"en row (\d+)", name)[1]) - 1] for name in named)
    assert str(caught.value).startswith("update ") and "not finite before it: encoder.embed_positions.weight" in str(
        caught.value
    )
