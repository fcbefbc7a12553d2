"""Register tasks and models also where `ppa_fairseq` is imported before fairseq sees `--user-dir`."""

import importlib
import pkgutil
from collections.abc import Iterable


class RegisteringPath(list):
    """The package's `__path__`, which registers tasks and models when fairseq looks for --user-dir in it.

    fairseq's `import_user_module` imports tasks/ and models/ of a folder only if its package is not in `sys.modules`
    yet. Otherwise (in a notebook, a test, `python -c`) it only evaluates `folder in package.__path__`, and the
    registries stay empty. Python's own imports iterate over `__path__` and never ask this question.
    """

    def __init__(self, folders: Iterable[str]):
        super().__init__(folders)

    def __contains__(self, folder: object) -> bool:
        found = super().__contains__(folder)
        if found:
            for layer in ("tasks", "models"):
                package = importlib.import_module(f"ppa_fairseq.{layer}")
                for module in pkgutil.iter_modules(package.__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{package.__name__}.{module.name}")
        return found
