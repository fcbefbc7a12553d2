"""A checkpoint whose first attempt to be written failed is not written at all."""

from collections import OrderedDict

from ppa_fairseq.utils.errors import InputError


class WriteOnce:
    """Lies in what fairseq saves, and fails when it is pickled a second time; loaded, it is an empty OrderedDict.

    When writing fails, fairseq tries again, into the same file, behind the first part: nobody can read the outcome, yet
    fairseq takes it for the newest checkpoint and removes the older ones. A disk that was full for a moment would cost
    the whole training. With this, the file stays a `*.tmp`, and the training ends as if the disk had stayed full.
    """

    def __init__(self):
        self.written = False

    def __reduce__(self):
        if self.written:
            raise InputError(
                "a checkpoint could not be written whole (the disk was full, or a network file system failed); those "
                "before it are complete: start the same command again"
            )
        self.written = True
        return OrderedDict, ()
