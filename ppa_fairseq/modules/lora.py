"""LoRA (Hu et al. 2021): a linear layer with the weight W + (alpha / R) B A. W is frozen, B A has the rank R.

peft trains it. Everything else in this package reads merged weights and needs no peft.
"""

from torch import Tensor, nn

from ppa_fairseq.modules.freezing import run_on_a_few_tokens, weights_behind
from ppa_fairseq.utils.errors import InputError

BASE, ADAPTER = ".base_layer.", ".lora_"  # in peft's names of weights
A, B = ".lora_A.default.weight", ".lora_B.default.weight"


def add_adapters(encoder: nn.Module, rank: int, alpha: int) -> None:
    """Freeze an encoder of either form; each of its linear layers that was not frozen gets an adapter.

    What stands beside the layers, such as a pooler, stays as it is: it belongs to a head. An encoder computes as before
    until its adapters are trained. Raises InputError if peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("--lora-rank needs peft, which is not installed; run: pip install peft") from None
    own = weights_behind(run_on_a_few_tokens(encoder)["hidden"])
    linear = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    layers = [name for name, module in linear.items() if module.weight in own]
    beside = [weight for weight in encoder.parameters() if weight.requires_grad and weight not in own]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers), encoder)
    for weight in beside:
        weight.requires_grad_(True)


def with_adapters(encoder: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the weights of an encoder without adapters into those of *encoder*, whose adapters stay as they are."""
    own = encoder.state_dict()
    names = {name.replace(BASE, "."): name for name in own}
    adapters = {name: tensor for name, tensor in own.items() if ADAPTER in name}
    return {names.get(name, name): tensor for name, tensor in state.items()} | adapters


def merge(state: dict[str, Tensor], alpha: float) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """Merge adapters into their layers' weights, in fp32; return the weights, and A (R, in) and B (out, R) by layer."""
    merged = {name.replace(BASE, "."): tensor for name, tensor in state.items() if ADAPTER not in name}
    layers = [name.removesuffix(A) for name in state if name.endswith(A)]
    adapters = {layer: (state[layer + A].float(), state[layer + B].float()) for layer in layers}
    for layer, (a, b) in adapters.items():
        merged[f"{layer}.weight"] = merged[f"{layer}.weight"].float() + alpha / len(a) * b @ a
    return merged, adapters
