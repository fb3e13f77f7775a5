"""What one benchmark run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from histoforensics.forensics import CONTROLS, DETECTORS
from histoforensics.forensics.training import check_device
from histoforensics.generators import FAMILIES
from histoforensics.slides import require

DEFAULT_DETECTORS = ("radial-lr", "dct-ridge", "wht-lr", "npr", "resnet")  # what minutes on two cores can train


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One run of `histoforensics benchmark`. Without arguments: the sample slide and three GANs trained on the spot."""

    real: tuple[Path, ...] = ()  # slides or folders of images; none: the sample slide
    fake: Mapping[str, Path] = field(
        default_factory=dict
    )  # name -> folder of images or checkpoint; none: train on `real`
    detectors: tuple[str, ...] = DEFAULT_DETECTORS
    families: tuple[str, ...] = tuple(FAMILIES)  # trained where no fakes are given
    patch_px: int | None = None  # the judged size; None: 112 on a slide, else the largest that all images have
    mpp: float | None = None  # of slides that do not say
    generator_seconds: float = 240.0  # of training, side by side
    cnn_seconds: float = 18.0  # of each training of a CNN detector
    same_source: bool = False  # the user's word that the given fakes were made from the given tissue
    threads: int = 1  # of the numerical libraries; for models this small more cost time (`threads`)
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(bool(self.detectors), "detectors", f"one or more of {', '.join(DETECTORS)}", "none")
        for name in self.detectors:
            require(name in DETECTORS, "detector", f"one of {', '.join(DETECTORS)}", name)
        for name in self.fake:
            ok = bool(name) and name not in {*DETECTORS, *CONTROLS, "real"} and "/" not in name
            require(ok, "the name of a set of fakes", "a word of its own without a slash", name)
        require(self.generator_seconds > 0, "generator_seconds", "above 0", self.generator_seconds)
        require(self.cnn_seconds > 0, "cnn_seconds", "above 0", self.cnn_seconds)
        require(self.threads >= 1, "threads", "1 or more", self.threads)
        check_device(self.device)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
