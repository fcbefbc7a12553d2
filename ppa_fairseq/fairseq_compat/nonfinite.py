"""Which items made a loss or a gradient not finite: looked for once fairseq has met one, so that no step pays for it.

fairseq's trainer then does the update over, under its NanDetector, which logs the module. This finds the items: no item
of a batch touches another, so those that broke are those whose gradient is not finite where they enter the encoder.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from fairseq.nan_detector import NanDetector
from torch import Tensor, nn

from ppa_fairseq.utils.errors import InputError

NAMED = 8  # items at most


def fairseq_searches(model: nn.Module) -> bool:
    """Whether this is the repeat: the NanDetector hooks itself to every module."""
    hooks = model.encoder._forward_hooks.values()
    return any(isinstance(getattr(hook, "__self__", None), NanDetector) for hook in hooks)


@contextlib.contextmanager
def broken_tokens(encoder: nn.Module) -> Iterator[list[Tensor]]:
    """A list that a forward and a backward of *encoder* leave one (T,) bool in: where the gradient is not finite."""
    broken: list[Tensor] = []

    def watch(module, args, embedded: Tensor) -> None:  # (T, C)
        embedded.requires_grad_()  # a frozen encoder's asks for no gradient
        embedded.register_hook(lambda gradient: broken.append(~gradient.isfinite().all(1)))

    handle = encoder.layernorm_embedding.register_forward_hook(watch)
    try:
        yield broken
    finally:
        handle.remove()


def report(
    update: int,
    model: nn.Module,
    lengths: list[int],
    broken: Tensor,
    logged: dict,
    parts: Sequence[str],
    items: list[str],
) -> None:
    """Raise InputError that names the update, the parts of the loss, the items and the weights that are not finite.

    Args:
        lengths: of the B sequences in the batch: for each of *parts* in turn, one for each of its items.
        broken: (T,) from :func:`broken_tokens`.
        logged: the losses of *parts*, or one ``loss``.
        items: what to call each of the N items of the batch.

    Returns if no item broke: then the sum over them did, as in half precision it can.
    """
    sequences = torch.stack([part.any() for part in broken.cpu().split(lengths)]).view(len(parts), -1)  # (P, N)
    told = []
    for part, flags in zip(parts, sequences, strict=True):
        places = flags.nonzero()[:, 0].tolist()
        if not places:
            continue
        gradient = "gradient of the " if torch.isfinite(logged.get(part, logged["loss"])) else ""
        named = ", ".join(items[place] for place in places[:NAMED]) + ", …" * (len(places) > NAMED)
        told.append(
            f"the {gradient}{part} loss is not finite on {len(places)} of {len(flags)} items in the encoder at once "
            f"({named})"
        )
    if not told:
        return
    gone = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    model.zero_grad()  # else the NanDetector prints them all, and this line drowns
    weights = f"; not finite before it: {', '.join(gone[:NAMED])}{', …' * (len(gone) > NAMED)}" if gone else ""
    raise InputError(
        f"update {update}: {'; '.join(told)}{weights}. Lower --lr, set --clip-norm, or look at these rows of the data"
    )
