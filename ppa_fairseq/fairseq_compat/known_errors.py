"""Errors that fairseq and its libraries raise of a wrong flag or file, where the plugin cannot look before."""

import argparse
import re
import traceback

MOMENTUM_OF_TWO = (
    "--optimizer sgd and nag have a --momentum, and so has the model: take another one, such as adam or fused_adamw"
)
NO_ARCH = (
    "no --arch is given: give --arch ppa_bert for --task ppa_alignment, ppa_bert_classifier for xnli_codeswitch, "
    "ppa_bert_reader for mlqa_codeswitch"
)
OTHER_WEIGHTS = (
    "the checkpoint to go on from trained other weights (--freeze-encoder, or an objective's weight of 0): give "
    "another --save-dir and take it as --pretrained, or --reset-optimizer"
)
NO_OPTIMIZER = "no --optimizer is given: give one, such as --optimizer fused_adamw"
NO_BATCH_SIZE = "neither --batch-size nor --max-tokens is given: give one, such as --batch-size 32"
KNOWN = (  # type, pattern of the message, what to tell
    (argparse.ArgumentError, "conflicting option string: --momentum", MOMENTUM_OF_TWO),
    (ValueError, "contains a parameter group that doesn't match the size", OTHER_WEIGHTS),
    (ValueError, "^optimizer is required!$", NO_OPTIMIZER),
    (AssertionError, "^Must specify batch size either with --max-tokens or --batch-size$", NO_BATCH_SIZE),
    (ValueError, "Cannot combine --fp16 and --tpu", "--fp16 and --bf16 exclude each other: give one"),
    (ValueError, "--finetune-from-model can not be set", "--finetune-from-model resets all: no --reset-* beside it"),
    (
        RuntimeError,
        "can't allocate memory: you tried to allocate",
        "not so much memory is left: lower --queue-size, or what makes a batch: --batch-size, --max-tokens",
    ),
)
# Of omegaconf: a value of another type, a key that is not there. Its others are a program's faults.
CONFIG_ERRORS = ("ValidationError", "ConfigKeyError")


def told(error: BaseException) -> str | None:
    """What to tell a user of *error*, if it is known."""
    for kind, pattern, line in KNOWN:
        if isinstance(error, kind) and re.search(pattern, str(error)):
            return line
    if type(error) is RuntimeError and not error.args:  # fairseq's options say no more of a model that they miss
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") == "fairseq.options" and frame.f_locals["args"].arch is None:
            return NO_ARCH
    if type(error).__module__ == "hydra.errors" or type(error).__name__ in CONFIG_ERRORS:  # of fairseq-hydra-train
        return f"{' '.join(str(error).split())[:300]}: mend the config or what is given to override it"
    if isinstance(error, UnicodeDecodeError) or str(error).startswith("negative seek position"):
        # fairseq-preprocess, which seeks back, byte by byte, for where a character begins
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if text := frame.f_locals.get("input_file"):
                return f"{text}: not UTF-8; convert it, and delete the half of it that is in --destdir by now"
    return None
