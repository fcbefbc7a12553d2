"""`--check-ranks`: compare the model on all ranks, bit for bit, after every update."""

import torch
import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils

from ppa_fairseq.utils.errors import InputError


def check_ranks(model, update: int) -> None:
    """Compare weights, momentum encoder and queue of *model* with rank 0's. Every rank must call it.

    Raises InputError, on all ranks alike, that names what differs and on which ranks.
    """
    group = distributed_utils.get_data_parallel_group()
    ranks = distributed_utils.get_world_size(group)
    if ranks == 1:
        return
    differs: dict[str, bool] = {}  # by part; the same parts on every rank
    for name, tensor in model.state_dict().items():
        here = tensor.detach().reshape(-1).view(torch.uint8)
        first = here.clone()
        dist.broadcast(first, src=0, group=group)
        part = name if name.startswith("queue.") else name.partition(".")[0]
        differs[part] = differs.get(part, False) or not torch.equal(here, first)
    everyone = [here.new_empty(len(differs)) for _ in range(ranks)]
    dist.all_gather(everyone, here.new_tensor(list(differs.values())), group=group)
    table = torch.stack(everyone, dim=1)  # (parts, ranks)
    found = [
        f"{part} (rank {', '.join(map(str, row.nonzero().flatten().tolist()))})"
        for part, row in zip(differs, table, strict=True)
        if row.any()
    ]
    if found:
        raise InputError(
            f"--check-ranks: after update {update} these differ from rank 0's: {', '.join(found)}. Resume from the "
            "last checkpoint, which is rank 0's. If it happens again, a rank has other software or faulty hardware"
        )
