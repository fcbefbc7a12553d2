"""Encoders of transformers through the whole chain: import, align, fine-tune, measure, export."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from helpers import training
from helpers.any_encoder import IDS, MODELS, make_folder
from helpers.hf_folders import save_random
from helpers.nli_data import LABELS, make_nli_bin
from helpers.qa_data import make_qa_bin
from helpers.ranks import train_on_ranks
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.checkpoints.weights import CLASSIFICATION_HEAD, KINDS, LM_HEAD, SPAN_HEAD, build_empty, part
from ppa_fairseq.commands import main as cli
from ppa_fairseq.data.sentence_pairs import PairLayout
from ppa_fairseq.modules.packing import pack, pool
from ppa_fairseq.utils.errors import InputError

POSITIONS = dict.fromkeys(["XLM-RoBERTa", "LUKE"], 319)  # one row belongs to the padding
LONG = {name: POSITIONS.get(name, 320) for name in MODELS} | {"Gemma, bidirectional": 320}


def run(*command):
    assert cli.main([str(word) for word in command]) == 0


@pytest.fixture(scope="module")
def finetuning_data(dictionary, tmp_path_factory):
    """Data-bin folders of NLI and of question answering."""
    root = tmp_path_factory.mktemp("finetuning")
    for name in ("nli", "qa"):
        (root / name).mkdir()
    sizes = {"train": 24, "valid": 9}
    return make_nli_bin(root / "nli", dictionary, sizes), make_qa_bin(root / "qa", dictionary, sizes)


@pytest.fixture(scope="module", params=MODELS)
def chain(request, dictionary, data_bin, finetuning_data, tmp_path_factory):
    """A kind of model and its folders: Hugging Face's, imported, aligned, fine-tuned twice, exported three times."""
    root, name = tmp_path_factory.mktemp("chain"), request.param
    theirs = make_folder(root / "hf", name, dictionary.symbols)
    run("import-hf", root / "hf", root / "base", "--arch", "ppa_transformers")
    updates = ["--max-update", "2", "--lr", "1e-3"]
    aligning = [*training.TINY_ALIGNMENT, *updates, "--arch", "ppa_transformers", "--pretrained", str(root / "base")]
    training.run_training([str(data_bin), *aligning], root / "aligned")
    aligned = root / "aligned" / "checkpoint_last.pt"
    tasks = ("nli", training.NLI, "classifier"), ("qa", training.QA, "reader")
    for data, (task, flags, head) in zip(finetuning_data, tasks, strict=True):
        flags = [*training.TINY_FINETUNING, *flags, *updates, "--pretrained", str(aligned)]
        training.run_training([str(data), *flags, "--arch", f"ppa_transformers_{head}"], root / task)
    for made in ("aligned", "nli", "qa"):
        run("export-hf", root / made / "checkpoint_last.pt", root / f"{made}-hf")
    return name, theirs, root


def sequences(lengths=(5, 40, 33, 9)):
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(10, 200, (length,), generator=generator) for length in lengths]
    return ids, [(torch.arange(len(row)) > 3).long() for row in ids]


def assert_equal(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def assert_same_hidden_states(path, model, longest):
    """Ours of the checkpoint at *path* in one packed batch, theirs of each sequence alone."""
    encoder, _ = checkpoint.load_encoder(path)
    rows, types = sequences((5, longest, 33, 9))
    layers = encoder(**pack(rows, types), return_layers=True)["layers"]
    given = [{"token_type_ids": one[None]} if encoder.cfg.token_types else {} for one in types]
    base = model.eval().base_model
    outputs = [
        base(input_ids=row[None], output_hidden_states=True, **extra) for row, extra in zip(rows, given, strict=True)
    ]
    for number, ours in enumerate(layers):
        assert_equal(ours, torch.cat([output.hidden_states[number][0] for output in outputs]))
    return layers[-1], rows, given


def test_the_imported_and_the_aligned_encoder_have_their_hidden_states(chain):
    name, theirs, root = chain
    assert checkpoint.read(root / "base").max_length == LONG[name]
    assert_same_hidden_states(root / "base", theirs, LONG[name])
    trained = AutoModel.from_pretrained(root / "aligned-hf")
    hidden, rows, _ = assert_same_hidden_states(root / "aligned" / "checkpoint_last.pt", trained, LONG[name])
    before, _ = checkpoint.load_encoder(root / "base")
    with torch.no_grad():
        assert (before(**pack(*sequences((5, LONG[name], 33, 9))))["hidden"] - hidden).abs().max() > 1e-3
    for task in ("nli", "qa"):
        tuned = AutoModel.from_pretrained(root / f"{task}-hf")
        assert_same_hidden_states(root / task / "checkpoint_last.pt", tuned, LONG[name])


def test_the_mlm_head_is_theirs(chain):
    name, _, root = chain
    trained = checkpoint.read(root / "aligned" / "checkpoint_last.pt")
    encoder, head = build_empty(trained.shape, "MaskedLM")
    encoder.load_state_dict(part(trained.state, "encoder."), assign=True)
    head.load_state_dict(part(trained.state, LM_HEAD), assign=True)
    rows, types = sequences()
    with torch.no_grad():
        hidden = encoder.eval()(**pack(rows, types))["hidden"]
        logits = head.eval()(hidden, encoder.embed_tokens.weight)
    assert logits.shape == (sum(map(len, rows)), 210)  # no logit for rows without a token
    if name == "Gemma, bidirectional":
        assert json.loads((root / "aligned-hf" / "config.json").read_text())["architectures"] == ["Gemma3TextModel"]
        return
    model, found = AutoModelForMaskedLM.from_pretrained(root / "aligned-hf", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    for row, type_ids, ours in zip(rows, types, logits.split(list(map(len, rows))), strict=True):
        extra = {"token_type_ids": type_ids[None]} if encoder.cfg.token_types else {}
        with torch.no_grad():
            assert_equal(ours, model.eval()(input_ids=row[None], **extra).logits[0, :, :210])


def test_sentence_transformers_has_our_vectors(chain):
    from sentence_transformers import SentenceTransformer

    _, _, root = chain
    encoder, tokenizer = checkpoint.load_encoder(root / "aligned" / "checkpoint_last.pt")
    texts = ["w1 w2 w3", "w150", "w9 w8 w7 w6 w5 w4 w3"]
    packed = pack([torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(texts)])
    with torch.no_grad():
        ours = pool(encoder(**packed)["hidden"], packed["cu_seqlens"], "cls")
    theirs = SentenceTransformer(str(root / "aligned-hf"), device="cpu").encode(texts, convert_to_tensor=True)
    assert_equal(ours, theirs)


def pairs_of(root, task):
    """The fine-tuned checkpoint, its encoder and head, and three pairs: packed, and as AutoTokenizer makes them."""
    trained = checkpoint.read(root / task / "checkpoint_last.pt")
    prefix = CLASSIFICATION_HEAD if task == "nli" else SPAN_HEAD
    encoder, head = build_empty(trained.shape, KINDS[prefix], len(LABELS) if task == "nli" else 0)
    encoder.load_state_dict(part(trained.state, "encoder."), assign=True)
    head.load_state_dict(part(trained.state, prefix), assign=True)
    layout = PairLayout(trained.build_tokenizer("it"), 64)
    ids = [([11, 12, 13], [14]), ([20], [30, 31, 32]), ([40, 41], [50, 51])]
    laid = [layout.lay(*(np.array(side) for side in pair)) for pair in ids]
    packed = pack(*([torch.from_numpy(one) for one in side] for side in zip(*laid, strict=True)))
    texts = [[" ".join(f"w{i - 10}" for i in side) for side in pair] for pair in ids]
    sides = map(list, zip(*texts, strict=True))
    batch = AutoTokenizer.from_pretrained(root / f"{task}-hf")(*sides, padding=True, return_tensors="pt")
    assert batch["input_ids"][batch["attention_mask"].bool()].tolist() == packed["tokens"].tolist()
    if not encoder.cfg.token_types:
        batch.pop("token_type_ids", None)
    return trained, encoder.eval(), head.eval(), packed, batch


@torch.no_grad()
def test_a_classifier_has_their_logits(chain):
    name, _, root = chain
    trained, encoder, head, packed, batch = pairs_of(root, "nli")
    model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
        root / "nli-hf", output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert_equal(head.classify(encoder, packed), model.eval()(**batch).logits)
    assert model.config.id2label == dict(enumerate(LABELS)) == dict(enumerate(trained.labels))


@torch.no_grad()
def test_a_reader_has_their_logits(chain):
    name, _, root = chain
    architecture = MODELS[name][2]
    if architecture is None:  # transformers has no such class: ours is trained, and exported without it
        assert not (root / "qa-hf" / "modules.json").exists()
        return
    _, encoder, head, packed, batch = pairs_of(root, "qa")
    output = getattr(transformers, architecture).from_pretrained(root / "qa-hf").eval()(**batch)
    mask = batch["attention_mask"].bool()
    expected = torch.stack([output.start_logits[mask], output.end_logits[mask]], dim=-1)
    assert_equal(head(encoder(**packed)["hidden"]), expected)


@pytest.fixture(scope="module")
def modernbert(dictionary, data_bin, tmp_path_factory):
    """A random ModernBERT: Hugging Face's folder, and what is imported from it."""
    root = tmp_path_factory.mktemp("modernbert")
    make_folder(root / "hf", "ModernBERT", dictionary.symbols)
    run("import-hf", root / "hf", root / "base")
    return root


def align(base, data, save_dir, *flags):
    arch = ["--arch", "ppa_transformers", "--pretrained", str(base)]
    return training.run_training([str(data), *training.TINY_ALIGNMENT, *arch, *flags], save_dir)


@pytest.mark.parametrize("chain", ["ModernBERT", "Gemma, bidirectional"], indirect=True)  # with an MLM head, without
def test_every_command_takes_it(chain, tmp_path, capsys):
    _, _, root = chain
    aligned, base = root / "aligned" / "checkpoint_last.pt", root / "base"
    (tmp_path / "text").write_text("w1 w2 w3\nw4 w5\n")
    (tmp_path / "words").write_text("w1 w2 ||| w101 w102\nw3 ||| w103\n")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "de-en.tsv").write_text("".join(f"w{i} w{i + 1}\tw{100 + i} w{101 + i}\n" for i in range(20)))
    nli = tmp_path / "nli-en.tsv"
    nli.write_text("".join(f"{LABELS[i % 3]}\tw{i} w7\tw{i}\n" for i in range(12)))
    run("embed", "--model", aligned, "--input", tmp_path / "text", "--output", tmp_path / "v.npy")
    assert np.load(tmp_path / "v.npy").shape == (2, 16)
    run("word-align", "--model", f"m={aligned}", "--text", tmp_path / "words", "--output", tmp_path / "links")
    run("retrieve", "--model", f"m={aligned}", "--pairs", tmp_path / "pairs", "--layer", "all",
        "--output", tmp_path / "retrieval")  # fmt: skip
    run("perplexity", "--model", f"a={base}", "--model", f"b={aligned}", "--text", f"de={tmp_path / 'text'}")
    run("probe", "--model", f"m={aligned}", "--pairs", f"nli={nli}:{nli}")
    context = " ".join(f"w{i}" for i in range(30))
    answer = {"text": "w5 w6", "answer_start": context.index("w5 w6")}
    asked = [{"id": "q", "question": "w50 w4", "answers": [answer]}]
    squad = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": asked}]}]}
    (tmp_path / "qa.en.json").write_text(json.dumps(squad))
    run("evaluate-qa", "--model", f"m={root / 'qa' / 'checkpoint_last.pt'}", "--data", f"en={tmp_path / 'qa.en.json'}",
        "--max-length", "40", "--doc-stride", "8")  # fmt: skip
    rows = "".join(f"w{i} w7\tw{i}\t{LABELS[i % 3]}\n" for i in range(12))
    (tmp_path / "test.en.tsv").write_text("premise\thypo\tlabel\n" + rows)
    run("evaluate-xnli", "--model", f"m={root / 'nli' / 'checkpoint_last.pt'}", "--data", tmp_path / "test.en.tsv",
        "--output", tmp_path / "xnli")  # fmt: skip
    assert cli.main(["fit-head", str(base), str(tmp_path), str(tmp_path / "fitted")]) == 1
    assert "train it with --freeze-encoder --contrastive-weight 0" in capsys.readouterr().err
    assert cli.main(["trim-vocab", str(base), str(tmp_path / "cut"), f"de={tmp_path / 'text'}"]) == 1
    assert "only this plugin's own form of BERT can be trimmed" in capsys.readouterr().err


def test_a_resumed_training_equals_a_straight_one(modernbert, data_bin, tmp_path):
    straight = align(modernbert / "base", data_bin, tmp_path / "one", "--max-update", "4", "--dropout", "0.1")
    align(modernbert / "base", data_bin, tmp_path / "two", "--max-update", "2", "--dropout", "0.1")
    resumed = align(modernbert / "base", data_bin, tmp_path / "two", "--max-update", "4", "--dropout", "0.1")
    training.assert_same_training(straight, resumed)
    from fairseq import checkpoint_utils

    last = str(tmp_path / "two" / "checkpoint_last.pt")
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([last])  # as fairseq-validate does
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, resumed["model"][name]), name


@pytest.mark.parametrize("part_of", [[], ["--lora-rank", "2", "--train-layers", "1"]], ids=["whole", "LoRA"])
def test_two_ranks_stay_equal(modernbert, data_bin, tmp_path, part_of):
    if part_of:
        pytest.importorskip("peft", reason="needs peft: pip install peft")
    flags = [*part_of, "--arch", "ppa_transformers", "--pretrained", str(modernbert / "base"), "--max-update", "3"]
    argv = [str(data_bin), *training.TINY_ALIGNMENT, *flags, "--disable-validation", "--check-ranks"]
    ranks = train_on_ranks(2, argv, tmp_path)
    assert [rank.exitcode for rank in ranks] == [0, 0], ranks[0].output[-3000:]


@pytest.mark.parametrize(
    "flags",
    ["--bf16", "--freeze-encoder --contrastive-weight 0", "--tlm-weight 0", "--negatives both --pooling mean",
     "--tlm-language-embeddings", "--tokens-at-once 100"],
)  # fmt: skip
def test_alignment_flags_do_what_they_do_for_our_own_form(modernbert, data_bin, tmp_path, flags):
    before = checkpoint.read(modernbert / "base").state
    after = align(modernbert / "base", data_bin, tmp_path, "--max-update", "2", *flags.split())["model"]
    changed = {name for name in before if not torch.equal(before[name], after[name].to(before[name].dtype))}
    expected = {
        "--freeze-encoder --contrastive-weight 0": {name for name in before if name.startswith(LM_HEAD)},
        "--tlm-weight 0": {name for name in before if name.startswith("encoder.")},
    }
    assert changed == expected.get(flags, before.keys())


@pytest.mark.parametrize("chain", ["BERT", "EuroBERT"], indirect=True)  # a classifier with a pooler, without
def test_a_finetuned_model_is_finetuned_again(chain, finetuning_data, tmp_path):
    _, _, root = chain
    flags = [*training.TINY_FINETUNING, "--max-update", "1", "--pretrained", str(root / "nli" / "checkpoint_last.pt")]
    before = checkpoint.read(root / "nli" / "checkpoint_last.pt").state
    again = [*flags, *training.NLI, "--arch", "ppa_transformers_classifier", "--lr", "0"]
    after = training.run_training([str(finetuning_data[0]), *again], tmp_path / "nli")["model"]
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    other = [*flags, *training.QA, "--arch", "ppa_transformers_reader"]
    assert training.run_training([str(finetuning_data[1]), *other], tmp_path / "qa")


@pytest.mark.parametrize("chain", ["BERT"], indirect=True)
def test_a_part_of_the_encoder_is_finetuned(chain, finetuning_data, tmp_path):
    """With its pooler, which belongs to the head."""
    _, _, root = chain
    base = str(root / "aligned" / "checkpoint_last.pt")
    flags = [*training.TINY_FINETUNING, *training.NLI, "--pretrained", base, "--max-update", "2"]
    part_of = [*flags, "--arch", "ppa_transformers_classifier", "--train-layers", "1", "--lr"]
    after = training.run_training([str(finetuning_data[0]), *part_of, "1e-3"], tmp_path / "one")["model"]
    start = training.run_training([str(finetuning_data[0]), *part_of, "0"], tmp_path / "two")["model"]
    moved = {name for name in after if not torch.equal(after[name], start[name])}
    assert moved == {name for name in after if ".layer.1." in name or "pooler" in name or "heads." in name}


@pytest.fixture(scope="module")
def distilbert(dictionary, tmp_path_factory):
    """A random DistilBERT's folder."""
    folder = tmp_path_factory.mktemp("distilbert") / "hf"
    make_folder(folder, "DistilBERT", dictionary.symbols)
    return folder


@pytest.fixture
def folder(distilbert, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(distilbert, tmp_path / "copy")


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("prefix", ["module.", "0.auto_model.", "model.encoder."])
@pytest.mark.parametrize("bare", [False, True], ids=["whole", "base"])
def test_names_with_a_wrapper_are_read(distilbert, folder, prefix, bare):
    """Also of the base model alone, which gets a new MLM head, the same each time."""
    change_weights(folder, lambda tensors: {
        prefix + name.removeprefix("distilbert." * bare): tensor for name, tensor in tensors.items()
        if name.startswith("distilbert.") or not bare
    })  # fmt: skip
    before, after, again = (checkpoint.read(one) for one in (distilbert, folder, folder))
    assert before.state.keys() == after.state.keys() == again.state.keys()
    for name in before.state:
        assert torch.equal(before.state[name], after.state[name]) == (not bare or name.startswith("encoder.")), name
        assert torch.equal(after.state[name], again.state[name])
    assert ("no MLM head in model.safetensors" in str(after.notes)) == bare


def test_a_folder_of_sentence_transformers_keeps_pooling_and_length(distilbert, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    transformer = Transformer(str(distilbert), max_seq_length=48)
    SentenceTransformer(modules=[transformer, Pooling(16, pooling_mode="mean")]).save(str(tmp_path / "st"))
    read = checkpoint.read(tmp_path / "st")
    assert (read.pooling, read.max_length) == ("mean", 48)


def test_an_untied_decoder_is_the_heads_own(folder, tmp_path):
    """Whatever config.json says: the file has both."""
    decoder = torch.full((213, 16), 0.5)
    change_weights(folder, lambda tensors: tensors | {"vocab_projector.weight": decoder})
    read = checkpoint.read(folder)
    assert torch.equal(read.state["lm_head.vocab_projector.weight"], decoder)
    run("export-hf", folder, tmp_path / "out")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert torch.equal(model.vocab_projector.weight, decoder) and not model.config.tie_word_embeddings


def test_a_decoder_that_is_a_copy_is_tied(distilbert, folder):
    """As files of older releases have it."""
    words = "distilbert.embeddings.word_embeddings.weight"
    change_weights(folder, lambda tensors: tensors | {"vocab_projector.weight": tensors[words].clone()})
    assert checkpoint.read(folder).state.keys() == checkpoint.read(distilbert).state.keys()


def with_code(folder):
    change_config(folder, model_type="mine", auto_map={"AutoModel": "mine.MineModel"})
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")


def with_other_model(model_type, **options):
    def change(folder):
        sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        config = transformers.CONFIG_MAPPING[model_type](vocab_size=213, **sizes, **IDS, **options)
        save_random(AutoModel.from_config(config), folder)

    return change


def with_missing_layer(folder):
    change_weights(folder, lambda tensors: {name: w for name, w in tensors.items() if "layer.1.ffn" not in name})


def with_more_tokens(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {f"more{i}": 210 + i for i in range(9)}
    path.write_text(json.dumps(content))


FAULTS = {
    "unknown type": (
        lambda folder: change_config(folder, model_type="mine"),
        "config.json: model_type is 'mine', which this version of transformers does not have; give a model of",
    ),
    "code": (with_code, "which this version of transformers does not have; it needs code of its own, and none is run"),
    "code for a known type": (
        lambda folder: (with_missing_layer(folder), change_config(folder, auto_map={"AutoModel": "mine.MineModel"})),
        "lin1.bias is missing; config.json names code of its own, which is not run; give the model in a form of",
    ),
    "adapters alone": (
        lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"),
        "holds adapters of peft alone; merge them into their model (merge_and_unload), and give the folder of that",
    ),
    "decoder": (
        with_other_model("llama", num_key_value_heads=1),
        "in this llama, the first token's hidden state does not depend on the last token; give an encoder",
    ),
    "encoder-decoder": (
        lambda folder: change_config(folder, model_type="t5"),
        "config.json: t5 is an encoder-decoder; give a model that is an encoder alone",
    ),
    "pictures": (with_other_model("vit", image_size=8, patch_size=4), "vit has no word embeddings"),
    "more tokens than rows": (with_more_tokens, "the tokenizer has 219 tokens and the model 213 word embeddings"),
    "another padding": (
        lambda folder: change_config(folder, pad_token_id=1),
        "the tokenizer's padding token has the id 0, but the model's has 1",
    ),
    "another size": (lambda folder: change_config(folder, hidden_dim=48), "config.json belongs to another model"),
    "not a number": (lambda folder: change_config(folder, n_layers="six"), "config.json: transformers refuses it"),
    "quantised": (
        lambda folder: change_config(folder, quantization_config={"quant_method": "bitsandbytes"}),
        "config.json: the weights are quantised",
    ),
    "a missing layer": (
        with_missing_layer,
        "tensor distilbert.transformer.layer.1.ffn.lin1.bias is missing; the file is not complete",
    ),
    "NaN": (
        lambda folder: change_weights(folder, lambda t: {n: v * torch.nan for n, v in t.items()}),
        "holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_taken_gets_one_clear_line_and_no_output(folder, tmp_path, capsys, fault):
    spoil, message = FAULTS[fault]
    spoil(folder)
    capsys.readouterr()
    assert cli.main(["import-hf", str(folder), str(tmp_path / "in")]) == 1
    report, error = capsys.readouterr()
    assert report == "" and message in error and error.count("\n") == 1, error
    assert error.startswith(f"ppa import-hf: error: {tmp_path}")
    assert not (tmp_path / "in").exists() and not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("arch", "flags", "message"),
    [
        ("ppa_bert", "", "has a model of transformers; use --arch ppa_transformers"),
        ("ppa_transformers", "--encoder-layers 2", "but a model of transformers has its own sizes; omit the flag"),
        ("ppa_transformers", "--tlm-reset-positions", "a model of transformers counts positions itself"),
    ],
)
def test_flags_that_do_not_fit_are_refused(modernbert, data_bin, tmp_path, arch, flags, message):
    arguments = ["--arch", arch, "--pretrained", str(modernbert / "base"), *flags.split()]
    with pytest.raises(InputError, match=message):
        training.run_training([str(data_bin), *training.TINY_ALIGNMENT, *arguments], tmp_path)


def test_our_own_form_is_refused_by_the_other_architecture(imported, train):
    with pytest.raises(InputError, match="has this plugin's own form of BERT; use --arch ppa_bert, or import it with"):
        train("--arch", "ppa_transformers", "--pretrained", str(imported()))


def test_the_form_can_be_chosen_where_there_are_two(distilbert, tmp_path, capsys):
    assert cli.main(["import-hf", str(distilbert), str(tmp_path / "in"), "--arch", "ppa_bert"]) == 1
    assert "is no BERT or XLM-RoBERTa; use --arch ppa_transformers" in capsys.readouterr().err
