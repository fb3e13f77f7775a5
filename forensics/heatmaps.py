"""Where on a patch a detector sees fakeness: Grad-CAM for any network, the detector's own map where it has one.

A map says where the evidence lies, not how strong it is: each is scaled to its own maximum. A network's attention is
no proof of what was generated; the score is the verdict, and the map is for looking.

References: Selvaraju et al. 2017, arXiv:1610.02391.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from histoforensics.slides import DetectorError

from .detector import Detector, Pixels, check_pixels

Maps = npt.NDArray[np.float32]


@runtime_checkable
class OwnMap(Protocol):
    """A detector that judges every window of a patch."""

    def heatmap(self, pixels: Pixels, batch: int = 16) -> Maps:
        """P(fake) of every window, (n, h', w')."""


def heatmap(detector: Detector, pixels: Pixels, batch: int = 16) -> Maps:
    """The best map there is, float32 (n, h, w) in [0, 1]: the detector's own, enlarged to the patch, else Grad-CAM.

    An own map holds P(fake) of each window, a Grad-CAM each patch's share of its own maximum: never set two detectors'
    maps side by side as if they were on one scale.

    Args:
        detector: Trained.
        pixels: uint8 (n, patch_px, patch_px, 3).
        batch: Patches at once.

    Raises:
        DetectorError: If it has no map and no layer that could give one.
        PatchError: If the patches are not of the judged size.
    """
    if not isinstance(detector, OwnMap):
        return grad_cam(detector, pixels, batch=batch)
    maps = torch.from_numpy(detector.heatmap(pixels, batch))
    return _enlarged(maps, detector.patch_px)


def grad_cam(detector: Detector, pixels: Pixels, layer: str | None = None, batch: int = 16) -> Maps:
    """Where the evidence for *fake* lies by Grad-CAM, float32 (n, h, w), each from 0 to 1; all 0 where there is none.

    The channels of a layer are weighted by how much the logit (which rises with fakeness) rises with each of them, and
    their sum is cut at 0.

    Args:
        detector: A trained detector with a network in it.
        pixels: uint8 (n, patch_px, patch_px, 3).
        layer: Name of a submodule whose output is (n, c, h', w'); the last such if None.
        batch: Patches at once.

    Raises:
        DetectorError: If it has no such layer, or its logit does not depend on it.
        PatchError: If the patches are not of the judged size.
    """
    check_pixels(pixels, detector.patch_px, detector.name)
    was_training = detector.training
    detector.eval()  # batch statistics would make one patch's map depend on the others
    try:
        name = last_layer(detector) if layer is None else layer
        parts = [_cam(detector, name, pixels[i : i + batch]) for i in range(0, len(pixels), batch)]
    finally:
        detector.train(was_training)
    cams = torch.cat(parts) if parts else torch.zeros(0, 1, 1)
    highest = cams.amax((1, 2), keepdim=True)
    return _enlarged(torch.where(highest > 0, cams / highest.clamp_min(1e-30), 0), detector.patch_px)


def last_layer(detector: Detector) -> str:
    """Name of the submodule that is the last to give several channels on more than one place.

    Raises:
        DetectorError: If there is none: the detector is no network, or pools at once.
    """
    seen: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] > 1 and output[0, 0].numel() > 1:
                seen.append(name)

        return note

    handles = [module.register_forward_hook(watch(name)) for name, module in detector.named_modules() if name]
    try:
        with torch.inference_mode():
            grey = torch.full((1, detector.patch_px, detector.patch_px, 3), 128, dtype=torch.uint8)
            detector(grey.to(detector.scale.device))
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise DetectorError(f"{detector.name}: no layer with a map of channels, so there is no Grad-CAM of it.")
    return seen[-1]


def _cam(detector: Detector, layer: str, pixels: Pixels) -> Tensor:
    """Maps (n, h', w') from 0 up, on the layer's own grid."""
    modules = dict(detector.named_modules())
    if layer not in modules or not layer:
        raise DetectorError(
            f"{detector.name}: no layer {layer!r}; the last one with a map is {last_layer(detector)!r}."
        )
    kept: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise DetectorError(f"{detector.name}: layer {layer!r} gives no map (n, channels, h, w).")
        kept.append(output.detach().requires_grad_())  # a leaf: gradients stop here, frozen encoders have one too
        return kept[-1].clone()  # what follows may write in place

    handle = modules[layer].register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = detector(torch.from_numpy(np.ascontiguousarray(pixels)).to(detector.scale.device))
            if len(kept) != 1 or not logits.requires_grad:
                raise DetectorError(f"{detector.name}: the logit does not follow from one output of layer {layer!r}.")
            (slope,) = torch.autograd.grad(logits.sum(), kept[0])
    finally:
        handle.remove()
    weighted = (slope.mean((2, 3), keepdim=True) * kept[0].detach()).sum(1)
    return weighted.clamp_min(0).float().cpu()


def _enlarged(maps: Tensor, patch_px: int) -> Maps:
    if not len(maps):
        return np.zeros((0, patch_px, patch_px), np.float32)
    size = (patch_px, patch_px)
    out: Maps = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0].clamp(0, 1).numpy()
    return out
