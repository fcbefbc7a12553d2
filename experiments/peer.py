"""Align an encoder by sentence-transformers' own trainer, on the pairs that our trainings get.

    python experiments/peer.py ENCODER TEXT OUT --updates 1000

ENCODER is a Hugging Face folder, TEXT the folder of `ppa prepare-bitext`, OUT a new folder for SentenceTransformer,
which all `ppa` commands take. The loss is MultipleNegativesRankingLoss in both directions: both sides have gradients,
and every pair of a batch is a negative of the others. Mean pooling, no dropout, AdamW with linear decay as in
[results.md](../docs/results.md); matrix products in bfloat16 where the CPU has instructions for it.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
    models,
)

from ppa_fairseq.modules.cpu import has_bf16_instructions


def read_pairs(folder: Path) -> Dataset:
    """All training pairs, as text that the tokenizer cuts into the same WordPieces again."""
    pairs = {"anchor": [], "positive": []}
    for path in sorted(folder.glob("train.*-*.*")):
        first, second = path.name.split(".")[1].split("-")
        side = "anchor" if path.suffix == f".{first}" else "positive" if path.suffix == f".{second}" else None
        if side:
            pairs[side] += [line.replace(" ##", "") for line in path.read_text("utf-8").splitlines()]
    return Dataset.from_dict(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder = models.Transformer(str(args.encoder), config_kwargs=no_dropout)
    pooling = models.Pooling(encoder.get_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[encoder, pooling])
    on_cpu = not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        settings = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=args.batch_size,
            max_steps=args.updates,
            learning_rate=args.lr,
            warmup_steps=args.updates // 10,
            weight_decay=0.01,
            adam_beta2=0.98,
            optim="adamw_torch_fused",
            seed=args.seed,
            bf16=has_bf16_instructions() or not on_cpu,
            use_cpu=on_cpu,
            save_strategy="no",
            report_to="none",
            logging_steps=50,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=settings,
            train_dataset=read_pairs(args.text),
            loss=losses.MultipleNegativesRankingLoss(
                model, scale=20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
            ),
        )
        trainer.train()
    model.save(str(args.out), create_model_card=False)


if __name__ == "__main__":
    main()
