"""Flags of fairseq's programs that are wrong, case by case, and what the user must be told (see bad_input_cases)."""

from bad_input_cases import TRAIN, case, nothing

CASES = [
    case(TRAIN + " --best-checkpoint-metric retreival", nothing, "retreival: valid", "tells retrieval, retrieval_de-en",
        id="flags: metric"),
]  # fmt: skip
