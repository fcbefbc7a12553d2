"""Find the items that made a loss or a gradient not finite.

When fairseq's trainer meets a value that is not finite, it repeats the update under its NanDetector, which logs the
module. This names the items, and costs nothing before that. No item of a batch affects another, so the broken ones are
those whose gradient is not finite where they enter the encoder.
"""

import contextlib
from collections.abc import Iterator

import torch
from fairseq.nan_detector import NanDetector
from torch import Tensor, nn

from ppa_fairseq.utils.errors import InputError

MOST_NAMED = 8  # items, weights


def fairseq_searches(model: nn.Module) -> bool:
    """Whether fairseq repeats an update: then its NanDetector has a hook on every module."""
    hooks = model.encoder._forward_hooks.values()
    return any(isinstance(getattr(hook, "__self__", None), NanDetector) for hook in hooks)


@contextlib.contextmanager
def watch(task, sample: dict, model: nn.Module, update_num: int) -> Iterator[list]:
    """Watch one forward and backward on *sample*. Its caller puts what the criterion logged into the yielded list.

    Raises InputError that names the update, the parts of the loss, the items and the weights that are not finite.
    Does nothing if no item broke: then their sum did, as it can in half precision.
    """
    broken: list[Tensor] = []  # of (T,) bool, where the gradient is not finite

    def hook(module, args, embedded: Tensor) -> None:  # (T, C)
        embedded.requires_grad_()  # a frozen encoder's does not require it
        embedded.register_hook(lambda gradient: broken.append(~gradient.isfinite().all(1)))

    logged: list[dict] = []
    handle = model.encoder.layernorm_embedding.register_forward_hook(hook)
    try:
        yield logged
    finally:
        handle.remove()
    net_input = sample["net_input"]
    # For each part of the loss in turn, one sequence for each of the N items.
    lengths = net_input.get("query_input", net_input)["lengths"]
    sequences = torch.stack([tokens.any() for tokens in broken[0][: sum(lengths)].cpu().split(lengths)])
    items = [task.datasets["train"].origin(index) for index in sample["id"].tolist()]
    found = []
    for part, flags in zip(task.parts_of_loss, sequences.view(len(task.parts_of_loss), -1), strict=True):  # (N,)
        if not flags.any():
            continue
        gradient = "gradient of the " if torch.isfinite(logged[0].get(part, logged[0]["loss"])) else ""
        named = first_of([item for item, flag in zip(items, flags.tolist(), strict=True) if flag])
        found.append(f"the {gradient}{part} loss is not finite on {int(flags.sum())} of {len(flags)} items ({named})")
    if not found:
        return
    weights = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    model.zero_grad()  # the NanDetector would print all gradients, and hide this line
    before = f"; weights not finite before it: {first_of(weights)}" if weights else ""
    raise InputError(
        f"update {update_num + 1}: {'; '.join(found)}{before}. Decrease --lr, set --clip-norm, or check these rows"
    )


def first_of(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + ", …" * (len(names) > MOST_NAMED)
