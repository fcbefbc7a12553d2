"""Keep fairseq from writing a checkpoint a second time into a file that holds half of it."""

from collections import OrderedDict

from ppa_fairseq.utils.errors import InputError


class WriteOnce:
    """Part of every checkpoint that fails when it is pickled a second time; loaded, it is an empty OrderedDict.

    If writing fails, fairseq retries into the same file, behind the first part. Nobody can read the result, yet fairseq
    takes it for the newest checkpoint and removes the older ones: a disk that is full for a moment would cost the whole
    training. With this the file stays a `*.tmp`, and the training ends.
    """

    def __init__(self):
        self.written = False

    def __reduce__(self):
        if self.written:
            raise InputError(
                "writing a checkpoint failed (disk full, or a network file system); earlier checkpoints are complete: "
                "free some space and repeat the command"
            )
        self.written = True
        return OrderedDict, ()
