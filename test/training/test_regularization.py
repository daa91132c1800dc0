import pytest
import torch
from torch import nn

from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.losses.regularization import regularization_loss


def test_mean_square_of_the_weights_alone():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv2d(1, 1, 2), nn.Embedding(4, 5))
    model.token = nn.Parameter(torch.full((7, 7), 100.0))
    for p in model.parameters():
        nn.init.constant_(p, 50.0)
    nn.init.constant_(model[0].weight, 2.0)  # 6 of 4.0
    nn.init.constant_(model[2].weight, 3.0)  # 4 of 9.0
    loss, scores = regularization_loss(model)
    assert loss.item() == pytest.approx(6.0)
    assert scores["weight_rms"].item() == pytest.approx(6.0**0.5)
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {"0.weight", "2.weight"}


def test_frozen_weights_do_not_count():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    nn.init.constant_(model[0].weight, 9.0)
    nn.init.constant_(model[1].weight, 2.0)
    model[0].requires_grad_(False)
    assert regularization_loss(model)[0].item() == pytest.approx(4.0)
    assert regularization_loss(model.requires_grad_(False))[0] == 0.0


def test_the_networks_tokens_norms_and_biases_are_left_out(tiny_config):
    model = VPOGModel(tiny_config)
    regularization_loss(model)[0].backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    left = {name for name, p in model.named_parameters() if p.grad is None and p.numel()}
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm)}
    assert all(name.endswith(".weight") for name in touched)
    assert {n.removesuffix(".weight") for n in left if n.endswith(".weight")} == norms
    assert "encoder_unseen" in left
