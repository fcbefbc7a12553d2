"""PPA: post-pretraining alignment of multilingual BERT, as a fairseq plugin (`--user-dir ppa_fairseq`).

fairseq imports `tasks` and `models` by itself when it is given this folder; importing the package alone stays light.
"""

from ppa_fairseq.fairseq_compat import environment as compat
from ppa_fairseq.fairseq_compat import orphans
from ppa_fairseq.utils import errors

__version__ = "0.1.0"

errors.install_excepthook()
compat.apply()
orphans.end_with_launcher()
