"""Time a step of --arch ppa_transformers: against --arch ppa_bert, and against a plain loop of transformers.

    python benchmarks/any_encoder.py imported/mbert --layers 8
    python benchmarks/any_encoder.py mmbert --config mmbert/config.json

FOLDER has a tokenizer and, unless --config names one, a config.json of any model that transformers has. The weights are
drawn at random, so none are needed; the vocabulary is the tokenizer's. All sides train on the same pairs of the bundled
sample, with the same weights, in fp32, and take turns at every step:

    ppa_transformers      model, criterion, --optimizer fused_adamw, momentum encoder and queue of a training
    ppa_bert              the same with this plugin's own form of the encoder, for a BERT or an XLM-RoBERTa
    transformers, plain   a first version, as in benchmarks/alignment.py

Without dropout the losses must agree.
"""

import argparse
import inspect
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from alignment import WARM_UP, Ours, Plain, make_batches, our_model, sample_dataset
from tqdm import tqdm

from ppa_fairseq.checkpoints import huggingface, tokenizer
from ppa_fairseq.checkpoints.weights import Checkpoint
from ppa_fairseq.models.ppa import PPAModel
from ppa_fairseq.modules.bert import BertShape
from ppa_fairseq.utils.markdown import markdown_table

QUEUE = 4096
BREADTH, OWN, PLAIN = "ppa_transformers", "ppa_bert", "transformers, plain"


class AnyOurs(Ours):
    """Ours with any model."""

    def __init__(self, model: PPAModel):
        self.set_up(model)


class AnyPlain(Plain):
    """The plain version with any model that has an MLM head."""

    attention = "sdpa"  # not every model has an eager form

    def __init__(self, folder: Path, ours: PPAModel):
        from transformers import AutoModelForMaskedLM

        self.precision = torch.autocast("cpu", enabled=False)
        self.model = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation=self.attention)
        self.has_types = "token_type_ids" in inspect.signature(self.model.forward).parameters
        self.set_up(ours)

    def padded(self, packed: dict) -> dict:
        inputs = super().padded(packed)
        return inputs if self.has_types else {name: inputs[name] for name in ("input_ids", "attention_mask")}


def start(checkpoint: Checkpoint) -> PPAModel:
    """A PPA model with the checkpoint's encoder, whatever its form, and the same projection head and queue."""
    model = our_model(checkpoint.shape, QUEUE)
    torch.manual_seed(3)
    for layer in (model.projection.fc1, model.projection.fc2):
        layer.reset_parameters()
    model.start_from(checkpoint)
    return model


def write_random(folder: Path, source: Path, config: Path, layers: int | None) -> None:
    """Write a random model of this config.json, with the tokenizer of *source*."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    files = tokenizer.read_files(source)
    tokens = tokenizer.ModelTokenizer(files, str(source))
    content = json.loads(config.read_text()) | {"vocab_size": len(tokens), "pad_token_id": tokens.pad()}
    content |= {"num_hidden_layers": layers} if layers else {}
    torch.manual_seed(1)
    config = AutoConfig.for_model(**content)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.write_files(files, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="with a tokenizer and a config.json")
    parser.add_argument("--config", type=Path, help="another config.json")
    parser.add_argument("--layers", type=int, help="another number of layers")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=16, help="timed steps of each row")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count = args.rounds + WARM_UP
    batches = make_batches(sample_dataset(args.folder, pairs_a_language=500), args.batch_size, count)["by length"]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_random(folder, args.folder, args.config or args.folder / "config.json", args.layers)
        models = {BREADTH: start(huggingface.read(folder, transformers=True))}
        own = huggingface.read(folder)
        if isinstance(own.shape, BertShape):
            models[OWN] = start(own)
        sides = {PLAIN: AnyPlain(folder, models[BREADTH])}
    for name, model in models.items():
        sides[name] = AnyOurs(model)
    names = [*models, PLAIN]
    losses, seconds = {}, {name: [] for name in names}
    for name in names:
        sides[name].train(False)
        with torch.no_grad():
            losses[name] = sides[name].loss(batches[0]).item()
        sides[name].train(True)
    assert max(losses.values()) - min(losses.values()) < 1e-3, losses
    for batch in tqdm(batches, unit="turn"):
        for name in names:
            begin = time.process_time()
            sides[name].step(batch)
            seconds[name].append(time.process_time() - begin)
    table = [["", "pairs a processor second", f"{BREADTH} is faster by", "10th – 90th percentile"]]
    seconds = {name: np.array(times[WARM_UP:]) for name, times in seconds.items()}
    for name, took in seconds.items():
        ratios = took / seconds[BREADTH]
        low, high = np.percentile(ratios, [10, 90])
        compared = [f"**{took.sum() / seconds[BREADTH].sum():.2f}×**", f"{low:.2f} – {high:.2f}"]
        speed = f"{args.batch_size * len(took) / took.sum():.2f}"
        table.append([name, speed, *(compared if name != BREADTH else ("", ""))])
    shape = models[BREADTH].encoder.cfg
    print(f"{json.loads(shape.config)['model_type']}: {shape.layers} layers of {shape.dim}, {shape.vocab_size:,} "
          f"tokens, batches of {args.batch_size} pairs by length, {args.threads} threads, fp32\n")  # fmt: skip
    print(markdown_table(table))


if __name__ == "__main__":
    main()
