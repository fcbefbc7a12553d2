"""Train a part of an encoder: some of its layers, or all but its embeddings.

No line here names an architecture: a weight belongs to the first hidden state that depends on it, as autograd's graph
says. So the weights of layer i are those behind hidden state i + 1 and not behind hidden state i.
"""

import re

import torch
from torch import Tensor, nn

from ppa_fairseq.modules.packing import pack
from ppa_fairseq.utils.errors import InputError

LAYERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")  # such as 8-11 or 0,2-4


def freeze(encoder: nn.Module, layers: str | None, embeddings: bool) -> None:
    """Freeze all but some *layers* ("8-11"; None: all of them) of an encoder of either form, and maybe its embeddings.

    What stands beside the layers, such as a pooler, stays as it is. Raises InputError if there are no such layers.
    """
    if layers is None and not embeddings:
        return
    chosen = None if layers is None else parse_layers(layers, encoder.cfg.layers)
    seen: set[Tensor] = set()
    for number, hidden in enumerate(run_on_a_few_tokens(encoder)["layers"], start=-1):  # -1: the embeddings
        own = weights_behind(hidden) - seen
        seen |= own
        if chosen is not None and number in chosen and not own:
            raise InputError(f"--train-layers {layers}: layer {number} shares its weights with others; omit the flag")
        if number == -1 or chosen is not None and number not in chosen:
            for weight in own:
                weight.requires_grad_(False)


def parse_layers(text: str, number: int) -> set[int]:
    """Read "8-11" or "0,2-4": some of a *number* of layers. Raises InputError."""
    layers: set[int] = set()
    if LAYERS.fullmatch(text):
        spans = [[int(end) for end in span.split("-")] for span in text.split(",")]
        ranges = [range(span[0], span[-1] + 1) for span in spans]
        if all(ranges) and max(map(max, ranges)) < number:
            layers = set().union(*ranges)
    if not layers:
        raise InputError(
            f"--train-layers {text}: the encoder's layers are 0 to {number - 1}; give some, as in 0-2 or 0,{number - 1}"
        )
    return layers


@torch.enable_grad()
def run_on_a_few_tokens(encoder: nn.Module) -> dict:
    """Run an encoder without dropout, with all its hidden states."""
    training = encoder.training
    output = encoder.eval()(**pack([torch.tensor([1, 2, 3])]), return_layers=True)
    encoder.train(training)
    return output


def weights_behind(tensor: Tensor) -> set[Tensor]:
    """The weights that would get a gradient from *tensor*: the leaves of its graph, found without a backward pass."""
    found, nodes, waiting = set(), set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in nodes:
            continue
        nodes.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found
