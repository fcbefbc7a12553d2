"""Training with --lora-rank in both forms; adapters are merged by all that reads its checkpoints, or kept for peft."""

import json

import pytest
import torch
from helpers import training
from helpers.any_encoder import make_folder
from helpers.nli_data import make_nli_bin
from helpers.qa_data import make_qa_bin
from transformers import AutoModel, AutoModelForMaskedLM

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.commands import main as cli
from ppa_fairseq.modules.packing import pack

peft = pytest.importorskip("peft", reason="needs peft: pip install peft")


def run(*command):
    assert cli.main([str(word) for word in command]) == 0


def align(data, base, save_dir, *flags):
    arch = "ppa_transformers" if hasattr(checkpoint.read(base).shape, "config") else "ppa_bert"
    flags = ["--arch", arch, "--pretrained", str(base), "--lora-rank", "2", "--max-update", "4", *flags]
    return training.run_training([str(data), *training.TINY_ALIGNMENT, *flags], save_dir)


@pytest.fixture(scope="module", params=["BERT in our form", "BERT", "ModernBERT", "XLM"])
def aligned(request, dictionary, data_bin, tmp_path_factory):
    """Folders of a random model: Hugging Face's, imported, aligned with adapters, and exported with them."""
    root = tmp_path_factory.mktemp("lora")
    name = request.param.removesuffix(" in our form")
    make_folder(root / "hf", name, dictionary.symbols, surplus=0)
    run("import-hf", root / "hf", root / "base", "--arch", "ppa_bert" if name != request.param else "ppa_transformers")
    state = align(data_bin, root / "base", root / "aligned")
    run("export-hf", root / "aligned" / "checkpoint_last.pt", root / "out", "--keep-adapter")
    return root, state


@pytest.fixture(scope="module")
def finetuning_data(dictionary, tmp_path_factory):
    """Data folder, flags and the end of the architecture's name, by task."""
    folders = [tmp_path_factory.mktemp(name) for name in ("nli", "qa")]
    return {
        "nli": (make_nli_bin(folders[0], dictionary, {"train": 24}), training.NLI, "classifier"),
        "qa": (make_qa_bin(folders[1], dictionary, {"train": 24}), training.QA, "reader"),
    }


def hidden_states(encoder, packed):
    with torch.no_grad():
        return encoder(**packed)["hidden"]


def test_training_moves_adapters_and_heads_alone(aligned):
    root, state = aligned
    before, after = checkpoint.read(root / "base").state, state["model"]
    found = {name.replace(".base_layer.", "."): tensor for name, tensor in after.items() if ".lora_" not in name}
    moved = {name for name in before if not torch.equal(before[name], found[name])}
    assert moved and all(name.startswith("lm_head.") for name in moved)
    adapters = {name for name in after if name.startswith("encoder.") and ".lora_" in name}
    own = {name for name in after if name.startswith("momentum_encoder.encoder.")}
    assert adapters and own == {f"momentum_encoder.{name}" for name in adapters}
    heads = {name for name in after if name.startswith(("projection.", "lm_head."))}
    weights = {after[name].data_ptr() for name in adapters | heads}  # a tied one has two names
    assert len(state["last_optimizer_state"]["state"]) == len(weights)


def test_readers_and_exports_have_the_hidden_states_of_the_training(aligned):
    """The trained model itself, the merged one of all commands, the exported one, and peft's on the first folder."""
    from fairseq import checkpoint_utils

    root, _ = aligned
    last = root / "aligned" / "checkpoint_last.pt"
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(last)])
    rows = [torch.arange(10, 19), torch.arange(30, 60)]
    expected = hidden_states(model.eval().encoder, pack(rows))
    merged, _ = checkpoint.load_encoder(last)
    before, _ = checkpoint.load_encoder(root / "base")
    assert (hidden_states(before, pack(rows)) - expected).abs().max() > 1e-3
    torch.testing.assert_close(hidden_states(merged, pack(rows)), expected, rtol=1e-5, atol=1e-5)
    adapted = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(root / "hf"), str(root / "out" / "adapter"))
    for theirs in (AutoModel.from_pretrained(root / "out"), adapted):
        with torch.no_grad():
            found = torch.cat([theirs.eval()(input_ids=row[None]).last_hidden_state[0] for row in rows])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    _, report = AutoModelForMaskedLM.from_pretrained(root / "out", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_the_adapter_is_whole(aligned, recwarn):
    """peft only warns of adapters that are missing or too many."""
    root, _ = aligned
    config = json.loads((root / "out" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 8)
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(root / "hf"), str(root / "out" / "adapter"))
    found = model.load_adapter(str(root / "out" / "adapter"), "again")
    assert not found.unexpected_keys and not [name for name in found.missing_keys if "lora_" in name]
    assert not [warning for warning in recwarn if "adapter" in str(warning.message)]


def test_a_training_starts_from_merged_adapters(aligned, data_bin, tmp_path):
    root, _ = aligned
    last = root / "aligned" / "checkpoint_last.pt"
    before, after = checkpoint.read(last), align(data_bin, last, tmp_path, "--lr", "0")["model"]
    found = {name.replace(".base_layer.", "."): tensor for name, tensor in after.items() if ".lora_" not in name}
    assert all(torch.equal(found[name], tensor) for name, tensor in before.state.items())
    assert not any(tensor.any() for name, tensor in after.items() if ".lora_B" in name)


def test_there_is_no_adapter_of_a_whole_training(aligned, tmp_path, capsys):
    root, _ = aligned
    assert cli.main(["export-hf", str(root / "base"), str(tmp_path / "out"), "--keep-adapter"]) == 1
    assert f"--keep-adapter: {root / 'base'} was trained without --lora-rank; omit the flag" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_adapters_in_bfloat16_are_trained_on_a_base_in_bfloat16(aligned, data_bin, tmp_path):
    """The momentum encoder's adapters stay in fp32, on the base that it shares."""
    root, expected = aligned
    state = align(data_bin, root / "base", tmp_path, "--bf16")
    momentum = [tensor for name, tensor in state["model"].items() if name.startswith("momentum_encoder.")]
    assert {tensor.dtype for tensor in momentum} == {torch.float32}
    for name, tensor in expected["model"].items():
        torch.testing.assert_close(state["model"][name].float(), tensor.float(), rtol=0.1, atol=0.1, msg=name)


@pytest.mark.parametrize("task", ["nli", "qa"])
def test_finetuning_moves_adapters_and_the_head_alone(aligned, finetuning_data, task, tmp_path):
    """Its checkpoint and its export have merged weights. A pooler belongs to the head."""
    from fairseq import checkpoint_utils

    root, _ = aligned
    data, flags, end = finetuning_data[task]
    form = "transformers" if hasattr(checkpoint.read(root / "base").shape, "config") else "bert"
    flags = [str(data), *training.TINY_FINETUNING, *flags, "--arch", f"ppa_{form}_{end}", "--lora-rank", "2"]
    flags += ["--pretrained", str(root / "base"), "--lr"]
    start, after = (training.run_training([*flags, lr], tmp_path / lr)["model"] for lr in ("0", "1e-2"))
    moved = {name for name in after if not torch.equal(after[name], start[name])}
    own = (".lora_", "pooler", "classification_heads.", "span_head.")
    assert moved == {name for name in after if any(part in name for part in own)}

    last, rows = tmp_path / "1e-2" / "checkpoint_last.pt", [torch.arange(10, 19), torch.arange(30, 60)]
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(last)])
    expected = hidden_states(model.eval().encoder, pack(rows))
    run("export-hf", last, tmp_path / "out")
    for path in (last, tmp_path / "out"):
        found, _ = checkpoint.load_encoder(path)
        torch.testing.assert_close(hidden_states(found, pack(rows)), expected, rtol=1e-5, atol=1e-5)
