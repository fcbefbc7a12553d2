"""Give an encoder without a masked-LM head one that fits it.

Training TLM with an untrained head damages the encoder. ENCODER is what `fairseq-train --pretrained` takes, DATA a
folder of binarized pairs, as for `fairseq-train`. The head is fitted in closed form on masked tokens of DATA; the
encoder does not change. OUT has the form that `ppa import-hf` writes. An existing head is replaced.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ppa_fairseq.commands.arguments import positive
from ppa_fairseq.commands.import_hf import write_import
from ppa_fairseq.utils.errors import InputError
from ppa_fairseq.utils.files import output_folder

BATCH = 32  # pairs
FEWEST = 100  # masked tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("encoder", metavar="ENCODER", type=Path, help="folder of `ppa import-hf`, Hugging Face folder or checkpoint")
    add("data", metavar="DATA", help="folder of `ppa binarize` or `fairseq-preprocess`, with the encoder's vocabulary")
    add("out", metavar="OUT", type=Path, help="new folder (an earlier one is replaced)")
    add("--pairs", metavar="N", type=positive, default=2000, help="sentence pairs to use, of all languages (2000)")
    add("--seed", metavar="N", type=int, default=1, help="of the choice of pairs and of the masks (1)")
    add("--cpu", action="store_true", help="do not use a GPU")


def run(args: argparse.Namespace) -> None:
    from ppa_fairseq.checkpoints import format as checkpoint
    from ppa_fairseq.checkpoints.weights import LM_HEAD
    from ppa_fairseq.data.bitext.corpora import check_vocabulary, find_pairs, load_corpora, load_dictionary
    from ppa_fairseq.data.bitext.dataset import AlignmentDataset
    from ppa_fairseq.data.bitext.masking import MaskingScheme
    from ppa_fairseq.evaluation.embedding import device
    from ppa_fairseq.modules.bert import BertShape, SelectedPositions
    from ppa_fairseq.modules.masked_lm_fit import fit_masked_lm_head

    with output_folder(args.out, "fit-head") as folder:
        model = checkpoint.read(args.encoder)
        if not isinstance(model.shape, BertShape):
            raise InputError(
                f"{args.encoder}: a model of transformers, whose head has a form of its own; train it with "
                "--freeze-encoder --contrastive-weight 0"
            )
        if any(not name.startswith(("encoder.", LM_HEAD)) for name in model.state):
            raise InputError(f"{args.encoder}: is fine-tuned; give an encoder without a task's head")
        encoder, _ = model.build_encoder(str(args.encoder))
        pairs = find_pairs(args.data, "train")
        dictionary = load_dictionary(args.data, pairs)
        check_vocabulary(dictionary, model.tokenizer, str(args.encoder))
        scheme = MaskingScheme.for_dictionary(dictionary, probability=0.15)
        scheme.maskable[dictionary.unk()] = False
        scheme = MaskingScheme(0.15, scheme.maskable, dictionary.mask(), scheme.replacements, 1.0, 0.0)
        corpora = load_corpora(args.data, "train", pairs, all_needed=True, dictionary=dictionary)
        dataset = AlignmentDataset(corpora, dictionary, scheme, args.seed, contrastive=False)
        chosen = np.random.default_rng(args.seed).permutation(len(dataset))[: args.pairs]
        chosen = chosen[dataset.sizes[chosen] <= encoder.max_positions()]
        place = device(args.cpu)
        encoder.to(place)
        counts = torch.zeros(len(dictionary))
        hidden, target = [], []
        for start in tqdm(range(0, len(chosen), BATCH), unit_scale=BATCH, unit=" pairs"):
            samples = [dataset[index] for index in chosen[start : start + BATCH]]
            batch = dataset.collater(samples)
            net_input = batch["net_input"]
            packed = {k: v.to(place) if torch.is_tensor(v) else v for k, v in net_input["query_input"].items()}
            selected = SelectedPositions(net_input["masked"].to(place), net_input["masked_counts"])
            with torch.inference_mode():
                hidden.append(encoder(**packed, selected=selected)["hidden"].cpu())
            target.append(batch["target"])
            tokens = np.concatenate([sample[side] for sample in samples for side in ("source", "target")])
            counts += torch.bincount(torch.from_numpy(tokens), minlength=len(dictionary))
        if sum(map(len, target)) < FEWEST:
            found = f"only {sum(map(len, target))} masked tokens"
            raise InputError(f"{args.data}: {found} in {len(chosen)} pairs, {FEWEST} are needed; give more pairs")
        words = model.state["encoder.embed_tokens.weight"].float()
        head, bits = fit_masked_lm_head(torch.cat(hidden), torch.cat(target), words, counts, model.shape.layer_norm_eps)
        dtype = model.state["encoder.embed_tokens.weight"].dtype
        model.state |= {LM_HEAD + name: weight.to(dtype) for name, weight in head.state_dict().items()}
        write_import(folder, model, model.build_tokenizer(str(args.encoder)))
    print(f"{args.out}: {sum(map(len, target)):,} masked tokens; {bits:.2f} bits for one that is held out")
