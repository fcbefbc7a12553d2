"""The task `xnli_codeswitch`: fine-tuning for natural language inference (Pan et al. 2021, on XNLI)."""

from fairseq.tasks import register_task

from ppa_fairseq.tasks.ppa_classification import ClassificationConfig, ClassificationTask


@register_task("xnli_codeswitch", dataclass=ClassificationConfig)
class XNLICodeswitchTask(ClassificationTask):
    """`ppa_classification` of premise and hypothesis: [CLS] premise [SEP] hypothesis [SEP] -> a label."""

    how_to_prepare = "scripts/prepare_xnli.sh"
