# The quick setting: all rows on one CPU core in about a day.
# shellcheck shell=bash disable=SC2034

seeds="1 2 3"

# Alignment. Short pairs: they take the least time, and Tatoeba's are short, too.
bitext_flags="--min-tokens 4 --max-tokens 48 --max-train 12000 --max-valid 100 --workers 1"
batch=32
pairs=1280 # of a main row, each seen once
long_pairs=32000
long_flags="--lr 2e-4 --momentum 0.99 --queue-size 4096"
align_flags="--pooling mean --momentum 0.95 --queue-size 2048 --temperature 0.05 --dropout 0 --attention-dropout 0
  --lr 3e-4 --num-workers 0 --log-interval 5"
checkpoint_flags="--no-save-optimizer-state" # a training of minutes starts again after an interruption
queue_sizes="64 512"
temperatures="0.02 0.2"
head_pairs=32000 # for fitting an MLM head
learning_rates="1e-4 6e-4"
pair_counts="640 5120 25000 100000 152448" # the last: all that preparation keeps, in whole batches
ablation_pairs=5120 # for the rows on queue, momentum, negatives, temperature and head: more than the queue holds
cls_learning_rate=3e-5
cls_pair_counts="5120 20480"
cls_momentums="0.99 0.999"
cls_long_pairs=20480

# Measuring.
tatoeba_pairs=200 # for each language
perplexity_sentences=100

# XNLI.
xnli_rows="unaligned ppa ppa-with-head moco tlm xlm-tlm long"
# One seed: could one of these explain why alignment brings no gain on XNLI?
xnli_ablations="pairs-5120 pairs-100000 queue-64 temperature-0.02 head-orthogonal moco-cls-long long-with-head"
translate_rows="unaligned long"
few_rows="unaligned" # trained on few translations, many times
few_translations=60 # in each language
xnli_test=690
xnli_train=1770
nli_updates=1250 # one epoch of 19,998 examples
translate_updates=400
finetune_flags="--batch-size 16 --lr 1e-4 --attention-dropout 0 --num-workers 0 --log-interval 20
  --no-save-optimizer-state"
