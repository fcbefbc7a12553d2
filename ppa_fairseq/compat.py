"""What newer Python, NumPy and torch break in fairseq, mended from outside; each line with its reason."""


def apply() -> None:
    """Mend what fairseq 0.12 expects of older libraries. Safe to call twice."""
    import numpy as np

    for name, kind in (("int", int), ("float", float), ("bool", bool), ("object", object)):
        if name not in np.__dict__:
            setattr(np, name, kind)
