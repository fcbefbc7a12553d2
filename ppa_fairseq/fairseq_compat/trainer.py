"""One step of an optimizer, and whether it happened."""

from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer


def step(optimizer: FairseqOptimizer) -> bool:
    """Step; False if --amp's scaler has left the step out because gradients overflowed.

    fairseq's own step under --amp divides the gradients by the loss scale a second time: it lets the scaler unscale
    torch's optimizer, but step the one around it, which the scaler takes for another. Adam hardly minds a factor until
    the scale has grown so far that its epsilon outweighs the gradients; then training stands still.
    """
    if not isinstance(optimizer, AMPOptimizer):
        optimizer.step()
        return True
    scale = optimizer.scaler.get_scale()
    optimizer.scaler.step(optimizer.optimizer)
    optimizer.scaler.update()
    return optimizer.scaler.get_scale() >= scale
