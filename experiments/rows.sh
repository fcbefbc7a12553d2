# The rows of the tables:  row NAME LABEL all|first FAIRSEQ-TRAIN-FLAGS
#
# experiments/reproduce.sh reads this file after the setting. It trains "all" rows with all seeds, "first" rows with the
# first one. Rows about the contrastive part (queue, momentum, negatives) and costly ones (learning rate, data) train
# without TLM; compare them with "MoCo only", not with PPA.
# shellcheck shell=bash disable=SC2046,SC2086,SC2154

row unaligned "unaligned" all
row ppa "MoCo + TLM (PPA)" all
row moco "MoCo only" all --tlm-weight 0
row tlm "TLM only" all --contrastive-weight 0
row xlm-tlm "TLM only, as in XLM" all --contrastive-weight 0 --tlm-reset-positions --tlm-language-embeddings
# The method at full length, where a setting cannot afford that for all rows.
[ -z "${long_pairs:-}" ] || row long "PPA, $(thousands "$long_pairs") pairs" all $(of_pairs "$long_pairs") $long_flags

# An encoder without an MLM head gets one: TLM trains the head alone, then the alignment starts from there. The
# perplexity says how well this head, or a new one, predicts tokens from the aligned encoder.
from_first() { echo "--pretrained $out/align/$1.${seeds%% *}/checkpoint_last.pt"; } # ROW, of the first seed
fit_head="--contrastive-weight 0 $(of_pairs "$head_pairs") --lr 1e-3 --freeze-encoder"
row ppa-with-head "PPA, from the fitted head" all $(from_first with-head)
row tlm-with-head "TLM only, from the fitted head" all --contrastive-weight 0 $(from_first with-head)
row with-head "unaligned, an MLM head fitted" first $fit_head
row moco-with-head "MoCo only, from the fitted head" first --tlm-weight 0 $(from_first with-head)
row moco-new-head "MoCo only, then a head fitted" first $fit_head $(from_first moco)
head_ablations="with-head moco-with-head moco-new-head" # perplexity is measured for these, too
if [ "${long_pairs:-}" ]; then
  row long-with-head "PPA, $(thousands "$long_pairs") pairs, from the fitted head" first $(of_pairs "$long_pairs") \
    $long_flags $(from_first with-head)
  head_ablations+=" long-with-head"
fi

row no-shuffle "PPA, no input shuffling" first --no-input-shuffle
# [CLS] pooling, and what could help an encoder whose [CLS] was never trained: a lower rate, a longer warm-up, more
# pairs, a slower momentum encoder.
row ppa-cls "PPA, [CLS] pooling" first --pooling cls
row moco-cls "MoCo only, [CLS] pooling" first --tlm-weight 0 --pooling cls
row moco-cls-slow "MoCo only, [CLS] pooling, learning rate $cls_learning_rate" first --tlm-weight 0 --pooling cls \
  --lr "$cls_learning_rate"
row moco-cls-warm-up "MoCo only, [CLS] pooling, half is warm-up" first --tlm-weight 0 --pooling cls \
  --warmup-updates $((pairs / batch / 2))
for count in $cls_pair_counts; do
  row "moco-cls-$count" "MoCo only, [CLS] pooling, $(thousands "$count") pairs" first --tlm-weight 0 --pooling cls \
    $(of_pairs "$count")
done
for momentum in $cls_momentums; do
  row "moco-cls-momentum-$momentum" \
    "MoCo only, [CLS] pooling, $(thousands "$ablation_pairs") pairs, momentum $momentum" first \
    --tlm-weight 0 --pooling cls $(of_pairs "$ablation_pairs") --momentum "$momentum"
done
row moco-cls-long "MoCo only, [CLS] pooling, $(thousands "$cls_long_pairs") pairs, momentum 0.999" first \
  --tlm-weight 0 --pooling cls $(of_pairs "$cls_long_pairs") --momentum 0.999
# The queue and the momentum, with enough pairs to fill the queue.
of_ablation="MoCo only, $(thousands "$ablation_pairs") pairs"
for size in $queue_sizes; do
  row "queue-$size" "$of_ablation, queue of $(thousands "$size")" first --tlm-weight 0 \
    $(of_pairs "$ablation_pairs") --queue-size "$size"
done
row no-pivot "$of_ablation, pivot-aware negatives off" first --tlm-weight 0 $(of_pairs "$ablation_pairs") \
  --no-pivot-aware
for momentum in 0 0.99 0.999; do
  row "momentum-$momentum" "$of_ablation, momentum $momentum" first --tlm-weight 0 $(of_pairs "$ablation_pairs") \
    --momentum "$momentum"
done
for temperature in $temperatures; do
  row "temperature-$temperature" "$of_ablation, temperature $temperature" first --tlm-weight 0 \
    $(of_pairs "$ablation_pairs") --temperature "$temperature"
done
# Initialisations of the projection head.
for start in normal orthogonal; do
  start_flags="--user-dir $here/variants --arch ppa_bert_head_$start"
  row "head-$start" "$of_ablation, $start projection head" first --tlm-weight 0 $(of_pairs "$ablation_pairs") \
    $start_flags
  row "moco-cls-head-$start" "MoCo only, [CLS] pooling, $(thousands "$ablation_pairs") pairs, $start projection head" \
    first --tlm-weight 0 --pooling cls $(of_pairs "$ablation_pairs") $start_flags
done
for lr in $learning_rates; do
  row "lr-$lr" "MoCo only, learning rate $lr" first --tlm-weight 0 --lr "$lr"
done
for count in $pair_counts; do
  row "pairs-$count" "MoCo only, $(thousands "$count") pairs" first --tlm-weight 0 $(of_pairs "$count")
done
