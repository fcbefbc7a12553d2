"""PPA: post-pretraining alignment of multilingual encoders, as a fairseq plugin (`--user-dir ppa_fairseq`)."""

from ppa_fairseq.fairseq_compat.user_dir import RegisteringPath

__version__ = "0.1.0"
__path__ = RegisteringPath(__path__)
