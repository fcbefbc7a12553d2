# The full setting: all data, for one GPU. It has not been run.
# shellcheck shell=bash disable=SC2034

seeds="1 2 3"

# Alignment.
bitext_flags="--min-tokens 4 --max-valid 500"
batch=128
pairs=464640 # of a main row, each seen once: all that preparation keeps of our 500,611, in whole batches
align_flags="--pooling mean --momentum 0.999 --queue-size 32000 --temperature 0.05 --dropout 0 --attention-dropout 0
  --lr 1e-4 --num-workers 2 --log-interval 50"
checkpoint_flags="--save-interval-updates 1000 --keep-interval-updates 1"
queue_sizes="1024 8192 131072"
temperatures="0.02 0.2"
head_pairs=100000 # for fitting an MLM head
learning_rates="3e-5 3e-4"
pair_counts="25000 100000"
ablation_pairs=$pairs # for the rows on queue, momentum, negatives, temperature and head
cls_learning_rate=1e-5
cls_pair_counts=100000
cls_momentums=0.9999
cls_long_pairs=$pairs

# Measuring.
tatoeba_pairs=0 # all
perplexity_sentences=0

# XNLI.
xnli_rows="unaligned ppa ppa-with-head moco tlm xlm-tlm"
xnli_ablations="queue-1024 queue-131072 temperature-0.02 temperature-0.2 head-orthogonal pairs-25000" # one seed
translate_rows="unaligned ppa"
few_rows="unaligned ppa" # trained on few translations, many times
few_translations=60 # in each language
xnli_test=1230 # of 2,490 rows; some are left over, because no premise may be in both parts
xnli_train=1230
nli_updates=1250 # two epochs of 19,998 examples
translate_updates=1000
finetune_flags="--attention-dropout 0 --num-workers 2 --log-interval 50"
