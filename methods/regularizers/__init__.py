"""The registry of regularisers: a new one is a file in this folder and its name in the tuple below."""

from methods.regularizers import orthoreg, orthoreg_diagonal, orthoreg_offdiagonal
from methods.regularizers.record import Regularizer

REGULARIZERS: dict[str, Regularizer] = {
    m.REGULARIZER.name: m.REGULARIZER for m in (orthoreg, orthoreg_diagonal, orthoreg_offdiagonal)
}

__all__ = ["REGULARIZERS", "Regularizer"]
