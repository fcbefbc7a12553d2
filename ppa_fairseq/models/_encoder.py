"""BERT as fairseq knows an encoder."""

from fairseq.models import FairseqEncoder

from ppa_fairseq.modules.bert import BertEncoder, BertShape


class FairseqBertEncoder(BertEncoder, FairseqEncoder):
    """The packed BERT encoder of `modules/bert.py` as a `FairseqEncoder`, with its dictionary."""

    def __init__(self, dictionary, cfg: BertShape):
        super().__init__(cfg, dictionary)
