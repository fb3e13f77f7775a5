"""What one benchmark run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from histoforensics.forensics import CONTROLS, DETECTORS
from histoforensics.forensics.standins import KERNELS
from histoforensics.forensics.training import check_device
from histoforensics.generators import FAMILIES, Preset
from histoforensics.slides import require

from .perturbations import Perturbation, chosen
from .splits import SplitRule

FREQUENCY = ("radial-lr", "dct-ridge", "wht-lr")  # what a fusion stacks, as far as a run has them
FUSION = "fusion"
DEFAULT_DETECTORS = (*FREQUENCY, FUSION, "npr")  # what minutes on two cores can train
BRIEF_SECONDS = 240.0  # of training a compact generator


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One run of `histoforensics benchmark`. Without arguments: the sample slide and the shipped generators."""

    title: str = ""  # of the study
    terms: str = ""  # under which the real images may be used
    real: tuple[Path, ...] = ()  # slides or folders of images; none: the sample slide
    fake: Mapping[str, Path] = field(
        default_factory=dict
    )  # name -> folder of images or checkpoint; none: the three families below
    detectors: tuple[str, ...] = DEFAULT_DETECTORS
    families: tuple[str, ...] = tuple(FAMILIES)  # where no fakes are given
    stand_ins: tuple[str, ...] = ()  # kernels by which real tissue of the split is resampled, in place of generators
    beside: tuple[str, ...] = ()  # families of shipped generators, judged by detectors that never learned from them
    train_generators: bool = False  # on `real`, in this run; else the shipped ones
    patch_px: int | None = None  # the judged size; None: 112 on a slide, else the largest that all images have
    mpp: float | None = None  # of slides that do not say
    generator_preset: Preset = "compact"
    generator_seconds: float | None = None  # of training; None: 240 for compact ones, else until `generator_kimg`
    generator_kimg: float | None = None  # thousands of images to train on; None: the preset's
    exam_size: int = 30  # real patches of the exam, and as many fakes, where there are so many
    cnn_seconds: float = 20.0  # of each training of a CNN detector
    cnn_seeds: tuple[int, ...] = ()  # of CNN detectors, trained once each; the first sits the exam. None: `seed`
    perturbations: Mapping[str, tuple[float, ...]] | None = None  # name -> severities; None: every one, as it comes
    splits: SplitRule = field(default_factory=SplitRule)  # of the real tissue
    tamper: bool = False  # also splice fakes, and real tissue, into the slide and see which are found
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
        for name in self.families:
            require(name in FAMILIES, "family", f"one of {', '.join(FAMILIES)}", name)
        for name in self.beside:
            require(name in FAMILIES, "beside", f"of {', '.join(FAMILIES)}", name)
        for name in self.stand_ins:
            require(name in KERNELS, "stand_ins", f"kernels of {', '.join(KERNELS)}", name)
        clash = "fake" if self.fake else "train_generators" if self.train_generators else "none"
        require(not self.stand_ins or clash == "none", "stand_ins", "the only fakes of a run", clash)
        require(
            self.generator_preset in get_args(Preset),
            "preset",
            f"one of {', '.join(get_args(Preset))}",
            self.generator_preset,
        )
        for name in ("generator_seconds", "generator_kimg"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "above 0", value)
        require(self.exam_size >= 1, "exam_size", "1 or more", self.exam_size)
        require(self.cnn_seconds > 0, "cnn_seconds", "above 0", self.cnn_seconds)
        require(all(seed >= 0 for seed in self.cnn_seeds), "cnn_seeds", "numbers of 0 or more", self.cnn_seeds)
        require(len(set(self.cnn_seeds)) == len(self.cnn_seeds), "cnn_seeds", "different numbers", self.cnn_seeds)
        chosen(self.perturbations or {})
        if FUSION in self.detectors:
            wanted = f"two or more of {', '.join(FREQUENCY)} beside fusion, which stacks them"
            require(len(self.fused) > 1, "detectors", wanted, ", ".join(self.detectors))
        require(self.threads >= 1, "threads", "1 or more", self.threads)
        check_device(self.device)
        require(self.seed >= 0, "seed", "0 or more", self.seed)

    @property
    def training_seconds(self) -> float | None:
        """How long each generator trains; None: until it has seen its images."""
        is_brief = self.generator_preset == "compact" and self.generator_kimg is None
        return BRIEF_SECONDS if self.generator_seconds is None and is_brief else self.generator_seconds

    @property
    def fused(self) -> tuple[str, ...]:
        """The detectors that a fusion of this run stacks."""
        return tuple(name for name in FREQUENCY if name in self.detectors)

    @property
    def curves(self) -> tuple[Perturbation, ...] | None:
        """What robustness is measured against; None where the study leaves the choice to each detector's speed."""
        return None if self.perturbations is None else chosen(self.perturbations)
