"""Random numbers that depend on where they are used, not on what was drawn before.

A mask must be the same after a resume, with any number of workers and of ranks. A hash of (seed, epoch, index, purpose,
position) gives that, for a whole batch in one call; a generator with a state does not.
"""

import numpy as np

# The constants of SplitMix64 (Steele, Lea and Flood, 2014), whose output function is this hash.
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
    with np.errstate(over="ignore"):  # the hash needs 64-bit overflow
        for coordinate in coordinates:
            bits = _mix((bits + np.asarray(coordinate).astype(np.uint64)) * _GAMMA + _GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
