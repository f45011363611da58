"""The reference's validation split: part of the training images, chosen by torch's generator.

10 % of the training rows, rounded down, at most 5,000; the rows are the tail of `torch.randperm(n)` under a generator
seeded with 0, which is what `torch.utils.data.random_split` with the lengths (n - v, v) hands out. Source: Ilharco et
al., 2023, and Ortiz-Jimenez et al., 2023, whose code asserts that MNIST's first training row is 36044.
"""

FRACTION = 0.1
LIMIT = 5_000
SEED = 0


def validation_size(total: int) -> int:
    """How many of `total` training rows are held out."""
    return min(int(total * FRACTION), LIMIT)


def validation_rows(total: int) -> list[int]:
    """Indices of the held-out rows among `total` training rows, in the reference's order."""
    return _parts(total)[1]


def training_rows(total: int) -> list[int]:
    """Indices of the rows that stay for training, in the reference's order."""
    return _parts(total)[0]


def _parts(total: int) -> tuple[list[int], list[int]]:
    import torch

    order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED)).tolist()
    stay = total - validation_size(total)
    return order[:stay], order[stay:]
