"""Print how many optimizer updates a training takes, for --max-update and the learning rate's schedule.

    python scripts/count_updates.py DATA --user-dir ppa_fairseq --task TASK --batch-size N --max-epoch N [flags]

Takes the flags of fairseq-train and makes the batches as training does. It counts one rank for each GPU of this machine
(--distributed-world-size sets another number), and stops at --max-update. It ignores flags that change no batch.
"""

import math
import sys

from fairseq import options, tasks
from fairseq.data import data_utils


def main(arguments: list[str]) -> int:
    parser = options.get_parser("count_updates", default_task="ppa_alignment")
    options.add_dataset_args(parser, train=True)
    options.add_optimization_args(parser)
    options.add_distributed_training_args(parser)
    args, _ = options.parse_args_and_arch(parser, arguments, parse_known=True)
    if not args.max_epoch or not args.batch_size:
        parser.error("give --max-epoch and --batch-size")
    args.save_dir, args.restore_file, args.best_checkpoint_metric = "", "", "loss"  # no training to resume
    task = tasks.setup_task(args)
    updates = 0
    for epoch in range(1, args.max_epoch + 1):
        if epoch == 1 or task.has_sharded_data(args.train_subset):
            task.load_dataset(args.train_subset, epoch=epoch)
        dataset = task.dataset(args.train_subset)
        dataset.set_epoch(epoch)
        with data_utils.numpy_seed(args.seed + epoch):
            indices = dataset.ordered_indices()
        batches = len(dataset.batch_by_size(indices, args.max_tokens, args.batch_size))
        update_freq = args.update_freq[min(epoch, len(args.update_freq)) - 1]
        updates += math.ceil(math.ceil(batches / args.distributed_world_size) / update_freq)
    return min(updates, args.max_update or updates)


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__.strip())
    else:
        print(main(sys.argv[1:]))
