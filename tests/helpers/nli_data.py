"""NLI in three made-up languages, binarized as a user does (`de` and `fr` are ciphers of `en`); an XLM-R tokenizer."""

import random
import sys
from pathlib import Path
from unittest import mock

from tokenizers import Tokenizer, models, processors

from ppa_fairseq.data.dictionary import WordPieceDictionary

LABELS = ("entailment", "neutral", "contradiction")
SHIFT = {"en": 0, "de": 60, "fr": 120}  # w0…w59 are English, and so on
NOT = 59


def write_xlm_roberta(folder: Path, tokens: list[str], pre_tokenizer) -> Tokenizer:
    """Write an XLM-RoBERTa tokenizer with the special tokens 0-3, these *tokens* and <mask>; return it."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *tokens, "<mask>"]
    unigram = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=3))
    unigram.pre_tokenizer = pre_tokenizer
    unigram.add_special_tokens([word for word in words if word[0] == "<"])
    unigram.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir()
    unigram.save(str(folder / "tokenizer.json"))
    return unigram


def rows(count: int, seed: int) -> list[tuple[list[int], list[int], str]]:
    """Return premises, hypotheses (a word of the premise, "not" and such a word, or another word) and labels."""
    rng, result = random.Random(seed), []
    for number in range(count):
        label = LABELS[number % 3]
        premise = [rng.randrange(NOT) for _ in range(rng.randint(2, 9))]
        word = rng.choice(premise) if label != "neutral" else rng.choice(sorted(set(range(NOT)) - set(premise)))
        result.append((premise, [NOT] * (label == "contradiction") + [word], label))
    return result


def make_nli_bin(folder: Path, dictionary: WordPieceDictionary, sizes: dict[str, int]) -> Path:
    """Make the data-bin folder by `fairseq-preprocess` for each language and part."""
    from fairseq_cli import preprocess

    import ppa_fairseq.tasks.xnli_codeswitch  # noqa: F401  (fairseq does it where the package is not imported yet)

    dictionary.save(str(folder / "dict.txt"))
    (folder / "labels.txt").write_text("".join(f"{label} 1\n" for label in LABELS))
    for language, shift in SHIFT.items():
        for split, count in sizes.items():
            texts = {"input0": [], "input1": [], "label": []}
            for premise, hypothesis, label in rows(count, seed=len(split)):
                texts["input0"].append(" ".join(f"w{word + shift}" for word in premise))
                texts["input1"].append(" ".join(f"w{word + shift}" for word in hypothesis))
                texts["label"].append(label)
            for part, lines in texts.items():
                (folder / f"{split}.{language}.{part}").write_text("".join(line + "\n" for line in lines))
        for part in ("input0", "input1", "label"):
            task = "--user-dir ppa_fairseq --task xnli_codeswitch" if part != "label" else ""
            words = folder / ("labels.txt" if part == "label" else "dict.txt")
            prefixes = " ".join(f"--{split}pref {folder}/{split}.{language}.{part}" for split in sizes)
            arguments = f"{task} --only-source --srcdict {words} {prefixes} --destdir {folder}/bin/{language}/{part}"
            with mock.patch.object(sys, "argv", f"fairseq-preprocess {arguments}".split()):
                preprocess.cli_main()
    return folder / "bin"
