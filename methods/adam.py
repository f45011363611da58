"""Adam for operators that write their gradient down: no graph, no parameter groups, one tensor."""

import torch
from torch import Tensor


class Adam:
    """Moves `value` in place, one gradient g of its shape at a time (Kingma & Ba, 2015, default decay rates).

    m <- 0.9 m + 0.1 g,   v <- 0.999 v + 0.001 g^2
    value <- value - learning_rate * m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8)         in step t = 1, 2, ...
    """

    def __init__(self, value: Tensor, learning_rate: float) -> None:
        self._value, self._learning_rate, self._steps = value, learning_rate, 0
        self._mean, self._square = torch.zeros_like(value), torch.zeros_like(value)

    def step(self, gradient: Tensor) -> None:
        """One step down `gradient`."""
        self._steps += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        size = (self._square / (1 - 0.999**self._steps)).sqrt_().add_(1e-8)
        self._value.addcdiv_(self._mean, size, value=-self._learning_rate / (1 - 0.9**self._steps))
