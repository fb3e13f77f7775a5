"""Networks from timm, with weights that the user or an installed package brings, never a hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from histoforensics.generators.lite0 import LITE0, lite0_state, read_tensors
from histoforensics.slides import DetectorError


def timm_network(name: str, backbone: str, outputs: int) -> nn.Module:
    """An untrained timm network; ``outputs`` 0 leaves it without a head, as an encoder.

    Raises:
        DetectorError: If timm knows no such network; ``name`` is the detector that asks.
    """
    import timm  # 200 MB and seconds, which programs without such a detector are spared

    if backbone not in timm.list_models():
        raise DetectorError(f"{name}: timm knows no backbone {backbone!r}; timm.list_models() names them all.")
    network: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=outputs)
    return network


def pretraining(network: nn.Module, key: str) -> Any:
    """What timm tells of the data that a network's published weights were trained on: mean, std, input_size, ..."""
    return getattr(network, "pretrained_cfg").get(key)  # noqa: B009 - timm sets it on the module it builds


def normalisation(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3, 1, 1) of the network's training images, in grey levels from 0 to 255."""
    mean, std = (255 * torch.tensor(pretraining(network, key)).view(3, 1, 1) for key in ("mean", "std"))
    return mean, std


def load_weights(
    name: str, network: nn.Module, backbone: str, *, pretrained: bool = False, weights: Path | str | None = None
) -> None:
    """Fill a timm network from a file of timm-named tensors, or from an installed package; its head stays as it is.

    Args:
        name: The detector that asks.
        network: From :func:`timm_network`.
        backbone: Its name.
        pretrained: ImageNet weights, for backbones whose weights come with an installed package.
        weights: A file of tensors instead: safetensors, or torch's own read with ``weights_only=True``.

    Raises:
        DetectorError: If both are asked for, no weights can be had, or they do not fit.
    """
    if pretrained and weights is not None:
        raise DetectorError(f"{name}: give either pretrained or weights, not both.")
    if weights is not None:
        _load(network, read_tensors(weights), Path(weights).name, backbone)
    elif pretrained:
        if backbone != LITE0:
            raise DetectorError(
                f"{name}: no package brings pretrained weights of {backbone}; use {LITE0}, or give a file by weights."
            )
        _load(network, lite0_state(), LITE0, backbone)


def _load(network: nn.Module, state: Mapping[str, Tensor], where: str, backbone: str) -> None:
    head = f"{pretraining(network, 'classifier')}."
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
    try:
        loaded = network.load_state_dict(kept, strict=False)
    except RuntimeError as err:
        raise DetectorError(f"{where}: these weights do not fit {backbone} ({err}).") from err
    missing = [name for name in loaded.missing_keys if not name.startswith(head)]
    if missing or loaded.unexpected_keys:
        raise DetectorError(
            f"{where}: these weights do not fit {backbone}; {len(missing)} tensors are missing {missing[:3]} "
            f"and {len(loaded.unexpected_keys)} are unknown {loaded.unexpected_keys[:3]}."
        )
