"""Detectors as one file for other programs: ONNX, or TorchScript with a wsinfer-style config.

A file is written only after it has given the same probabilities as the detector on patches drawn for that.

References: wsinfer, doi:10.1038/s41698-024-00499-9, whose model config names the fields in :func:`wsinfer_config`.
"""

from __future__ import annotations

import copy
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, assert_never, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from histoforensics.slides import DetectorError, require, write_atomic
from histoforensics.slides.synthetic import GLASS, purple_tissue

from .detector import Detector, Pixels, Verdict
from .exportgraphs import Logits, portable_logits

Format = Literal["onnx", "torchscript"]
FORMATS = get_args(Format)
TOLERANCE = 1e-4  # on P(fake), between the file and the detector
OPSET = 17
CLASSES = (Verdict.REAL.value, Verdict.FAKE.value)
Run = Callable[[Pixels], npt.NDArray[np.floating[Any]]]


def export_detector(
    detector: Detector, out: Path | str, to: Format = "onnx", *, mpp: float | None = None
) -> list[Path]:
    """Write the calibrated detector for another runtime, its card beside it; the paths of all files.

    Args:
        detector: Calibrated, since P(fake) is what comes out.
        out: Folder; files are named after the detector, older ones are replaced.
        to: "onnx": uint8 (n, h, w, 3) in, float32 (n,) P(fake) out, any n. "torchscript": what wsinfer feeds,
            float32 (n, 3, h, w) from 0 to 1, to logits (n, 2) of real and fake, whose softmax is P.
        mpp: Micrometres per pixel for wsinfer's config, where the card does not tell.

    Raises:
        DetectorError: If it is not calibrated, cannot be a graph, lacks a resolution or disagrees with its file; then
            nothing is written.
    """
    if not detector.is_calibrated:
        raise DetectorError(f"{detector.name}: not calibrated, so there is no P(fake) to export; train it first.")
    folder, name = Path(out), detector.name
    match to:
        case "onnx":
            files = {f"{name}.onnx": onnx_file(detector)}
        case "torchscript":
            config = json.dumps(wsinfer_config(detector, mpp), indent=2, ensure_ascii=False) + "\n"
            files = {f"{name}.pt": torchscript_file(detector), f"{name}.config.json": config.encode()}
        case _:
            assert_never(to)
    files[f"{name}.card.json"] = detector.card.to_json().encode()
    return [write_atomic(folder / file, content) for file, content in files.items()]


def parse_format(text: str) -> Format:
    """The format of that name.

    Raises:
        ConfigError: If there is none.
    """
    require(text in FORMATS, "format", f"one of {', '.join(FORMATS)}", text)
    return cast("Format", text)


def onnx_file(detector: Detector) -> bytes:
    """The detector as ONNX, checked on onnxruntime; its metadata hold thresholds, licence and the weights' digest.

    Raises:
        DetectorError: If onnx or onnxruntime is missing, or the file disagrees with the detector.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as err:
        raise DetectorError(
            f"ONNX export needs the package {err.name}; pip install 'histoforensics[export]' brings it."
        ) from err

    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        traced = Path(scratch) / "traced.onnx"
        torch.onnx.export(
            _Probability(detector).eval(),
            (torch.from_numpy(probes(detector.patch_px)),),
            traced,
            dynamo=False,  # the newer exporter needs a package more, and gives the same graph
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["p_fake"],
            dynamic_axes={"pixels": {0: "n"}, "p_fake": {0: "n"}},
        )
        model = onnx.load(traced)
    onnx.helper.set_model_props(model, told(detector))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    check_agreement(detector, lambda pixels: session.run(None, {"pixels": pixels})[0], "onnxruntime")
    return content


def torchscript_file(detector: Detector) -> bytes:
    """The detector as frozen TorchScript with the inputs and outputs of wsinfer, checked after reading it back.

    Raises:
        DetectorError: If the file disagrees with the detector.
    """
    with _quiet(), io.BytesIO() as buffer:
        traced = torch.jit.trace(_TwoClasses(detector).eval(), (_as_images(probes(detector.patch_px)),))  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), buffer)
        content = buffer.getvalue()
        read_back = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]

    def run(pixels: Pixels) -> npt.NDArray[np.floating[Any]]:
        with torch.inference_mode():
            found: npt.NDArray[np.floating[Any]] = read_back(_as_images(pixels)).softmax(1)[:, 1].numpy()
        return found

    check_agreement(detector, run, "TorchScript")
    return content


def wsinfer_config(detector: Detector, mpp: float | None = None) -> dict[str, Any]:
    """The config that wsinfer wants beside a TorchScript file, and what a reader of the file should know.

    There is no Resize in the transform: resampling wipes out what a detector looks for, so a slide of another
    resolution is refused by the graph's fixed size and not judged wrongly.

    Raises:
        DetectorError: If neither the card nor ``mpp`` tells a resolution, or they contradict each other.
    """
    card = detector.card
    spacing = mpp if card.mpp is None else card.mpp
    if spacing is None:
        raise DetectorError(f"{card.name}: its card tells no resolution, which wsinfer needs; give it by --mpp.")
    if mpp is not None and mpp != spacing:
        raise DetectorError(
            f"{card.name}: it was trained at {spacing:g} um per pixel, --mpp says {mpp:g}; leave it out."
        )
    return {
        "spec_version": "1.0",
        "architecture": card.name,
        "num_classes": len(CLASSES),
        "class_names": list(CLASSES),
        "patch_size_pixels": detector.patch_px,
        "spacing_um_px": spacing,
        "transform": [{"name": "ToTensor"}],
        **told(detector),
    }


def told(detector: Detector) -> dict[str, str]:
    """What travels inside the file, all as text: detector, size, thresholds, codec policy, licence, digest."""
    card = detector.card
    return {
        "detector": card.name,
        "patch_px": str(detector.patch_px),
        "mpp": "not told" if card.mpp is None else f"{card.mpp:g}",
        "real_below": f"{detector.real_below.item():.9g}",
        "fake_above": f"{detector.fake_above.item():.9g}",
        "promise": card.promise,
        "jpeg_policy": card.codec_policy,
        "licence": card.licence,
        "weights_sha256": card.weights_sha256,
        "histoforensics_version": card.version,
    }


def check_agreement(detector: Detector, run: Run, runtime: str) -> float:
    """The largest difference in P(fake) between ``run`` and the detector, over probes one by one and together.

    Raises:
        DetectorError: If it is above TOLERANCE, or a probability is not one.
    """
    pixels = probes(detector.patch_px)
    wanted = detector.score(pixels)
    together = run(pixels)
    alone = np.concatenate([run(pixels[i : i + 1]) for i in range(len(pixels))])
    worst = float(np.max([np.abs(found - wanted).max() for found in (together, alone)]))
    if not worst <= TOLERANCE:  # a NaN is refused as well
        raise DetectorError(
            f"{detector.name}: {runtime} differs from the detector by {worst:.2g} in P(fake), where {TOLERANCE:g} is "
            "allowed; nothing was written."
        )
    return worst


def probes(patch_px: int, seed: int = 0) -> Pixels:
    """Patches to compare on, uint8 (8, patch_px, patch_px, 3): tissue, smooth and enlarged tissue, noise, glass."""
    rng = np.random.default_rng(seed)
    tissue = [purple_tissue((patch_px, patch_px), rng) for _ in range(4)]
    half = purple_tissue(((patch_px + 1) // 2, (patch_px + 1) // 2), rng)
    enlarged = half.repeat(2, 0).repeat(2, 1)[:patch_px, :patch_px]
    smooth = (tissue[0] // 2 + np.roll(tissue[0], 1, axis=1) // 2).astype(np.uint8)
    noise = rng.integers(0, 256, tissue[0].shape, dtype=np.uint8)
    glass = np.full_like(noise, 0) + np.array(GLASS, dtype=np.uint8)
    return np.stack([*tissue, smooth, enlarged, noise, glass])


class _Probability(nn.Module):
    """uint8 (n, h, w, 3) to P(fake) (n,). Holds no submodule, so that tracing leaves the detector's other sides be."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.calibrated = _calibrated(detector)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.sigmoid(self.calibrated(pixels))


class _TwoClasses(nn.Module):
    """float32 (n, 3, h, w) from 0 to 1, as ToTensor makes them, to logits (n, 2): real, fake."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.calibrated = _calibrated(detector)

    def forward(self, images: Tensor) -> Tensor:
        # exact: a value k / 255 comes back as k
        logits = self.calibrated((images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
        return torch.stack([torch.zeros_like(logits), logits], dim=1)


def _calibrated(detector: Detector) -> Logits:
    still = copy.deepcopy(detector).cpu().eval().requires_grad_(False)  # tracing takes only such weights as constants
    logits = portable_logits(still)
    return lambda pixels: still.scale * logits(pixels) + still.bias


def _as_images(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of TorchScript's future and of constants, which are meant here."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning, torch.jit.TracerWarning):  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", kind)
        yield
