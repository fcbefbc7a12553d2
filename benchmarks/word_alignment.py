"""Time word alignment against awesome-align and simalign, from text to links, and compare the links.

    python benchmarks/word_alignment.py --model runs/quickstart/imported
    python benchmarks/word_alignment.py --model mbert/ --layer 8 --text enfr.src-tgt

All sides have the same BERT encoder, layer, method and threshold, in fp32 on the CPU, and take turns. awesome-align
takes batches of 32 in the order of the text, as its command does; simalign aligns one pair at a time, as its only
function does. A peer that is not installed is left out: `pip install simalign awesome-align`. Without --text, the pairs
are the bundled sample's.
"""

import argparse
import lzma
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import torch
from evaluation import SAMPLE, exported, take_turns
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

from ppa_fairseq.checkpoints import format as checkpoint
from ppa_fairseq.data.word_pairs import Words, word_pairs
from ppa_fairseq.evaluation.embedding import choose_layers
from ppa_fairseq.evaluation.word_alignment.aligner import METHODS, THRESHOLD, WordAligner
from ppa_fairseq.evaluation.word_alignment.error_rate import Link
from ppa_fairseq.utils.markdown import markdown_table

AWESOME_BATCH = 32
Side = Callable[[Sequence[Words]], list[set[Link]]]


def sample_pairs(count: int) -> list[Words]:
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as file:
        return [tuple(side.split() for side in line.split("\t")[:2]) for line in islice(file, count)]


def ours(model: Path, layer: int, method: str) -> Side:
    aligner = WordAligner(*checkpoint.load_encoder(model), [layer], [method], cpu=True)
    return lambda pairs: [set(map(tuple, links.tolist())) for links in aligner(pairs)[layer, method]]


def simalign(folder: Path, layer: int) -> Side:
    from simalign import SentenceAligner

    aligner = SentenceAligner(str(folder), token_type="bpe", matching_methods="a", layer=layer)
    return lambda pairs: [set(aligner.get_word_aligns(*pair)["inter"]) for pair in pairs]


def awesome_align(folder: Path, layer: int) -> Side:
    from awesome_align import modeling
    from awesome_align.configuration_bert import BertConfig
    from awesome_align.run_align import LineByLineTextDataset
    from awesome_align.tokenization_bert import BertTokenizer

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")  # its only format
    lowers = '"do_lower_case": true' in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lowers, max_len=512)
    modeling.PAD_ID, modeling.CLS_ID, modeling.SEP_ID = (
        tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    )  # fmt: skip
    config = BertConfig.from_pretrained(str(folder))
    model = modeling.BertForMaskedLM.from_pretrained(str(folder), config=config).eval()
    reader = SimpleNamespace(tokenizer=tokenizer)

    def align(pairs: Sequence[Words]) -> list[set[Link]]:
        links = []
        for first in range(0, len(pairs), AWESOME_BATCH):
            lines = (" ||| ".join(map(" ".join, pair)) for pair in pairs[first : first + AWESOME_BATCH])
            rows = [LineByLineTextDataset.process_line(reader, 0, line) for line in lines]
            _, *ids, source_words, target_words, _, _ = zip(*rows, strict=True)
            padded = [pad_sequence(side, batch_first=True, padding_value=modeling.PAD_ID) for side in ids]
            links += model.get_aligned_word(
                *padded, source_words, target_words, "cpu", 0, 0, layer, softmax_threshold=THRESHOLD, test=True
            )
        return links

    return align


def peer_of(method: str, folder: Path, layer: int) -> dict[str, Side]:
    name, make = {"softmax": ("awesome-align", awesome_align), "argmax": ("simalign", simalign)}[method]
    try:
        return {f"{name}, {method}": make(folder, layer)}
    except ModuleNotFoundError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return {}


def same(mine: list[set[Link]], other: list[set[Link]]) -> float:
    """Links of both sides, in percent of those of either."""
    both = sum(len(a & b) for a, b in zip(mine, other, strict=True))
    either = sum(len(a | b) for a, b in zip(mine, other, strict=True))
    return 100 * both / max(either, 1)


def rows_of(method: str, seconds: dict[str, float], links: dict[str, list[set[Link]]]) -> list[list[str]]:
    mine = f"ppa_fairseq, {method}"
    return [
        [name, f"{len(links[name]) / took:.1f}", f"**{took / seconds[mine]:.2f}×**"]
        + [f"{same(links[mine], links[name]):.2f} %"]
        for name, took in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, an import or a Hugging Face folder")
    parser.add_argument("--text", type=Path, help="`source ||| target` lines or a .tsv (default: the bundled sample)")
    parser.add_argument("--layer", default="last", help="a number, or last (default)")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=96, help="pairs in a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sys.modules.setdefault("torchaudio", None)  # transformers imports it if it is installed, and it may not load

    pairs = list(word_pairs(args.text)) if args.text else sample_pairs(args.pairs)
    pairs = pairs[: args.pairs]
    model = checkpoint.read(args.model)
    (layer,) = choose_layers(args.layer, model.shape.layers)
    rows = [["", "pairs a second", "ratio", "same links"]]
    with exported(model) as folder:
        for method in METHODS:
            sides = {f"ppa_fairseq, {method}": ours(args.model, layer, method), **peer_of(method, folder, layer)}
            rows += rows_of(method, *take_turns(sides, pairs, args.chunk))
    print(f"{len(pairs)} pairs, layer {layer} of {model.shape.layers}, {args.threads} threads, fp32\n")
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
