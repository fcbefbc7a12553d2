"""Libraries that only some commands need: an extra of this package installs them."""

import importlib
from types import ModuleType

from ppa_fairseq.utils.errors import InputError


def load_extra(module: str, extra: str, purpose: object) -> ModuleType:
    """Import *module*. Raise InputError, which names *purpose* and the extra to install, if it is absent."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):  # the module is there, something that it needs is not
            raise
        raise InputError(f"{purpose}: needs {module}; pip install 'ppa_fairseq[{extra}]'") from None
