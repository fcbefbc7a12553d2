"""Flags of fairseq's programs that are wrong, case by case, and what the user must be told (see bad_input_cases)."""

from bad_input_cases import TRAIN, TRAIN_MLQA, TRAIN_XNLI, case, nothing

CASES = [
    case(TRAIN + " --best-checkpoint-metric retreival", nothing, "retreival: valid", "tells retrieval, retrieval_de-en",
        id="flags: metric"),
    # what a training goes on from
    case(TRAIN + " --restore-file runs/best.pt", nothing, "--restore-file runs/best.pt: no such file",
        id="flags: restore nothing"),
    case(TRAIN + " --restore-file imported", nothing, "--restore-file imported: is a folder", id="flags: a folder"),
    case(TRAIN_XNLI + " --continue-once x.pt", nothing, "--continue-once x.pt: no such file", id="flags: once nothing"),
    case(TRAIN_MLQA + " --finetune-from-model x.pt", nothing, "--finetune-from-model x.pt: no such file",
        id="flags: fine-tune nothing"),
    case(TRAIN + " --finetune-from-model trained.pt --restore-file trained.pt", nothing,
        "--restore-file and --finetune-from-model", id="flags: two starts"),
]  # fmt: skip
