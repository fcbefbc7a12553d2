"""Flags of fairseq's programs that are wrong, case by case, and what the user must be told (see bad_input_cases)."""

import re

from helpers.bad_input_cases import PREPROCESS, TRAIN, TRAIN_MLQA, TRAIN_XNLI, VALIDATE, both, case, nothing, write

FUSED = " --optimizer fused_adamw"
POLYNOMIAL = " --lr-scheduler polynomial_decay"


def values(command: str, *flags: str) -> list:
    """Cases of a flag's value out of its range: *flags* in the words of the message, "--flag must be …, not VALUE"."""
    made = []
    for flag in flags:
        name, _, rest = flag.partition(" must be ")
        made.append(case(f"{command} {name} {rest.rpartition('not ')[2]}", nothing, flag, id=f"flags: {flag}"))
    return made


def without(command: str, flag: str) -> str:
    return re.sub(f" {flag} \\S+", "", command)


CASES = [
    # what fairseq wants of every training
    *(case(without(command, flag), nothing, told, id=f"flags: {task} without {flag}")
        for task, command in {"alignment": TRAIN, "nli": TRAIN_XNLI, "mlqa": TRAIN_MLQA}.items()
        for flag, told in {"--arch": "give --arch ppa_bert", "--optimizer": "--optimizer fused_adamw",
            "--batch-size": "--batch-size 32"}.items()),
    case(without(VALIDATE, "--batch-size"), nothing, "--batch-size 32", id="flags: validate without --batch-size"),
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
    case(TRAIN + " --finetune-from-model trained.pt --reset-meters", nothing, "no --reset-*", id="flags: reset"),
    # values
    *values(
        TRAIN,
        "--adam-eps must be at least 0 and finite, not -1.0",
        "--attention-dropout must be at least 0 and at most 1, not -1.0",
        "--attention-dropout must be at least 0 and at most 1, not nan",
        "--batch-size must be at least 1 and finite, not 0",
        "--contrastive-weight must be at least 0 and finite, not nan",
        "--dropout must be at least 0 and at most 1, not 2.0",
        "--log-interval must be at least 1 and finite, not 0",
        "--lr must be at least 0 and finite, not -1",
        "--mask-prob must be over 0 and at most 1, not nan",
        "--momentum must be at least 0 and at most 1, not nan",
        "--num-workers must be at least 0 and finite, not -1",
        "--queue-size must be at least 1 and at most 2,147,483,648, not 9999999999",
        "--sampling-exponent must be at least 0 and at most 10, not 1000000000.0",
        "--seed must be at least 0 and at most 4,000,000,000, not -1",
        "--temperature must be over 0 and finite, not nan",
        "--tokens-at-once must be at least 0 and finite, not -1",
        "--tlm-weight must be at least 0 and finite, not inf",
        "--update-freq must be at least 1 and finite, not 0",
        "--weight-decay must be at least 0 and finite, not nan",
    ),
    *values(TRAIN_XNLI, "--head-dropout must be at least 0 and at most 1, not 2.0"),
    *values(TRAIN_MLQA, "--update-freq must be at least 1 and finite, not -1"),
    *values(VALIDATE, "--num-workers must be at least 0 and finite, not -1"),
    *values(VALIDATE, "--log-interval must be at least 1 and finite, not 0"),
    case(TRAIN + FUSED + " --weight-decay -1", nothing, "--weight-decay must be", id="flags: fused weight decay"),
    case(TRAIN + " --adam-betas '(0.9)'", nothing, "--adam-betas", "give two numbers", id="flags: one beta"),
    case(TRAIN + FUSED + " --adam-betas '(0.9, 1)'", nothing, "--adam-betas", "below 1", id="flags: a beta of 1"),
    case(TRAIN + " --queue-size 2000000000", nothing, "lower --queue-size", id="flags: a queue beyond memory"),
    case(TRAIN + " --save-dir ''", nothing, "--save-dir is empty", id="flags: no save-dir"),
    case(TRAIN + " --bf16 --fp16", nothing, "--fp16 and --bf16 exclude", id="flags: two precisions"),
    case(TRAIN + POLYNOMIAL, nothing, "give --total-num-update", id="flags: no end of decay"),
    case(TRAIN + POLYNOMIAL + " --total-num-update 0", nothing, "give --total-num-update", id="flags: decay at once"),
    # task, model, criterion and optimizer
    *(case(f"{TRAIN} --criterion {name}", nothing, f"{name} do not go together", "--criterion ppa --arch ppa_bert or",
        id=f"flags: alignment by {name}") for name in ("cross_entropy", "masked_lm", "span_prediction")),
    case(TRAIN + " --task translation", nothing, "--task translation --arch ppa_bert --criterion ppa do not go",
        "give --task ppa_alignment", id="flags: translation"),
    *(case(f"{TRAIN_XNLI} {flags}", nothing, f"{flags} ", "do not go together: give --task xnli_codeswitch",
        id=f"flags: nli with {flags}") for flags in ("--criterion ppa", "--criterion span_prediction",
        "--criterion cross_entropy", "--arch ppa_bert_reader", "--arch ppa_bert")),
    case(TRAIN_XNLI + " --classification-head-name other", nothing, "--classification-head-name", id="flags: head"),
    case(TRAIN_XNLI + " --regression-target", nothing, "--regression-target", "leave it out", id="flags: regression"),
    case(TRAIN_XNLI + " --report-mcc", nothing, "--report-mcc", "leave it out", id="flags: correlation"),
    *(case(f"{TRAIN_MLQA} {flags}", nothing, f"{flags} ", "do not go together: give --task mlqa_codeswitch",
        id=f"flags: mlqa with {flags}") for flags in ("--criterion ppa", "--criterion sentence_prediction",
        "--arch ppa_bert_classifier")),
    *(case(f"{TRAIN} --optimizer {name}", nothing, "take another one, such as adam", id=f"flags: {name}")
        for name in ("sgd", "nag")),
    # labels, text
    *(case(TRAIN_XNLI, both(*(write(f"nli-bin/{language}/label/dict.txt", content) for language in ("de", "en"))),
        "label/dict.txt:", told, "prepare it with", id=f"labels: {name}") for name, content, told in (
        ("no count", "a\n", "no `symbol count` but 'a'"), ("Latin-1", b"\xff 1\n", "not UTF-8"),
        ("one twice", "a 1\na 1\n", "a label stands twice"), ("a special", "<pad> 1\n", "one of fairseq's own"))),
    *(case(PREPROCESS, write("prepared/train.de-en.de", text), "prepared/train.de-en.de: not UTF-8",
        id=f"preprocess: Latin-1 {place}") for place, text in (
        ("at once", b"\xff\n"), ("later", b"a\n" * 9999 + b"\xe9 b\n"))),
    case(VALIDATE + " --max-tokens 3", nothing, "14 pairs have over 3 tokens", id="flags: validate by 3 tokens"),
]  # fmt: skip
