"""Run the network alone in bfloat16: labels, poses and losses need the precision of float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NETWORK_METHODS = (
    "encode", "describe", "describe_templates", "match", "encoder_logits", "flow", "flow_where",
    "flow_of_pairs", "trace",
)  # fmt: skip
"""The methods of both networks that run in the trainer's precision."""


class FullPrecisionOutside:
    """Wraps a network inside a region of autocast: its methods run in it, everything else in float32.

    Under autocast the matrix products of ground truth would be rounded to eight bits as well: pixels are
    off by more than one, and poses by centimetres. The network's output is cast to float32.

    Args:
        device_type: cpu or cuda.
    """

    def __init__(self, network: nn.Module, device_type: str) -> None:
        self._network, self._device_type = network, device_type
        self._in_region = torch.is_autocast_enabled(device_type)
        self._dtype = torch.get_autocast_dtype(device_type)
        self._outside = torch.autocast(device_type, enabled=False)

    def __enter__(self) -> FullPrecisionOutside:
        self._outside.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._outside.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._network, name)
        return self._autocast(attribute) if name in NETWORK_METHODS and self._in_region else attribute

    def _autocast(self, method: Callable) -> Callable:
        def call(*args):
            with torch.autocast(self._device_type, dtype=self._dtype):
                return _float(method(*args))

        return call


def _float(value: Any) -> Any:
    """Cast floating point tensors, in dataclasses too, to float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    there = {k: v for k, v in vars(value).items() if v is not None}
    return dataclasses.replace(value, **{k: _float(v) for k, v in there.items()})
