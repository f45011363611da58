"""A low-rank update kept as its factors, so that nobody has to form the matrix."""

from typing import NamedTuple

from torch import Tensor


class Factors(NamedTuple):
    """The update `scale * b @ a` of one weight: `b` is `[rows, rank]`, `a` is `[rank, columns]`.

    The same shape of pair carries the gradients with respect to `b` and `a` (its `scale` is then not read).
    """

    b: Tensor
    a: Tensor
    scale: float = 1.0

    def dense(self) -> Tensor:
        """The update as a matrix `[rows, columns]`."""
        return (self.b @ self.a).mul_(self.scale)


Update = Tensor | Factors
