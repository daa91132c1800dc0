"""Compute weight regularization: the mean square of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WEIGHED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def regularization_loss(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the mean square over the weights of linear layers and the kernels of convolutions.

    No biases, norms, learned tokens or other parameters, and nothing that is frozen. A mean, so that one
    weight in the configuration suits every size of network; zero where there is nothing to weigh.

    Returns:
        the loss; `weight_rms`, its root.
    """
    weights = [m.weight for m in model.modules() if isinstance(m, WEIGHED) and m.weight.requires_grad]
    if not weights:
        zero = torch.zeros((), device=next((p.device for p in model.parameters()), None))
        return zero, {"weight_rms": zero}
    squares = torch.stack([w.float().square().sum() for w in weights]).sum()
    loss = squares / sum(w.numel() for w in weights)
    return loss, {"weight_rms": loss.detach().sqrt()}
