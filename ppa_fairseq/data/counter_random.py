"""Random numbers that are a function of where they are used, not of what was drawn before.

A mask must be the same after a resume, with any number of workers and on any number of ranks. A generator with a
state can't promise that; a hash of (seed, epoch, index, position, purpose) does, for a whole batch in one call.
"""

import numpy as np

# The constants of SplitMix64 (Steele, Lea and Flood, 2014), whose output function is the hash used here.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return bits ^ (bits >> np.uint64(31))


def uniform(*coordinates: int | np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1), one for each element of the broadcast integer *coordinates*; float64."""
    bits = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):  # 64-bit wrap-around is the point
        for coordinate in coordinates:
            bits = _mix((bits + np.asarray(coordinate).astype(np.uint64)) * _GAMMA + _GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
