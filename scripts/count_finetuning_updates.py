"""Optimizer updates that fine-tuning takes, for --max-update and the learning rate's schedule.

    python scripts/count_finetuning_updates.py xnli_codeswitch data-bin/xnli --batch-size 32 --epochs 2

Other flags are the task's own, as for fairseq-train: batches are made as training makes them.
"""

import argparse
import math

from fairseq import tasks
from fairseq.data import data_utils
from fairseq.dataclass.utils import gen_parser_from_dataclass

from ppa_fairseq.tasks.mlqa_codeswitch import MLQACodeswitchConfig
from ppa_fairseq.tasks.xnli_codeswitch import XNLICodeswitchConfig

CONFIGS = {"xnli_codeswitch": XNLICodeswitchConfig, "mlqa_codeswitch": MLQACodeswitchConfig}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("task", choices=CONFIGS)
parser.add_argument("data", help="data-bin folder")
parser.add_argument("--batch-size", type=int, required=True, help="of one rank")
parser.add_argument("--ranks", type=int, default=1)
parser.add_argument("--epochs", type=int, required=True)
args, flags = parser.parse_known_args()

flag_parser = argparse.ArgumentParser()
gen_parser_from_dataclass(flag_parser, CONFIGS[args.task]())
flags = vars(flag_parser.parse_args([args.data, *flags]))
# Of fairseq's other groups of flags; the first alone matters here.
elsewhere = {"seed": 1, "update_freq": [1], "best_checkpoint_metric": "loss", "valid_subset": "valid"}
elsewhere |= {"save_dir": "", "restore_file": ""}
task = tasks.setup_task(argparse.Namespace(**(flags | elsewhere), task=args.task))
task.load_dataset("train")
dataset, batches = task.dataset("train"), 0
for epoch in range(1, args.epochs + 1):
    dataset.set_epoch(epoch)
    with data_utils.numpy_seed(1 + epoch):
        indices = dataset.ordered_indices()
    batches += math.ceil(len(dataset.batch_by_size(indices, max_sentences=args.batch_size)) / args.ranks)
print(batches)
