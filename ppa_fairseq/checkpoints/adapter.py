"""The adapters of a training with --lora-rank as a folder that `peft.PeftModel.from_pretrained` loads."""

from pathlib import Path

from safetensors.torch import save_file

from ppa_fairseq.checkpoints.huggingface import ADAPTER_FILE, layout_of
from ppa_fairseq.checkpoints.sentence_encoder import write_json
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.modules.bert import BertShape


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write peft's files for AutoModel of the encoder that the training started from."""
    tensors, layers = {}, []
    for layer, (a, b) in checkpoint.adapters.items():
        names = _their_names(layer, checkpoint)
        layers += names
        for name, part in zip(names, b.chunk(len(names)), strict=True):  # layers that ours stacks share their A
            tensors[f"base_model.model.{name}.lora_A.weight"] = a.clone()
            tensors[f"base_model.model.{name}.lora_B.weight"] = part.contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": None,
        "r": len(a),
        "lora_alpha": checkpoint.training["model"]["lora_alpha"],
        "target_modules": layers,
        "inference_mode": True,
    }
    folder.mkdir()
    write_json(folder / ADAPTER_FILE, config)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _their_names(layer: str, checkpoint: Checkpoint) -> list[str]:
    """The names, in transformers' base model, of what a layer of the checkpoint is there."""
    if not isinstance(checkpoint.shape, BertShape):
        return [layer.split(".", 2)[2]]  # behind "encoder." and the base model's prefix
    layout = layout_of(checkpoint.shape)
    names = layout.name_table(checkpoint.shape.layers, ())[f"{layer}.weight"]
    return [name.removeprefix(layout.prefix).removesuffix(".weight") for name in names]
