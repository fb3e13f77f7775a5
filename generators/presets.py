"""The three presets of each family: `paper`, as published; `compact`, minutes on a CPU; `zoo`, hours on a CPU.

References: the published code of Karras et al. 2019 (arXiv:1812.04948), Karras et al. 2020 (arXiv:1912.04958) and
Quiros et al. 2021 (arXiv:1907.02644). The study reproduced is Alrasheed et al. 2020; not all settings that it states
take effect in the code that it used (`STATED`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, assert_never, get_args

from histoforensics.slides import require

from .config import Growth, TrainConfig
from .families import FAMILIES

Preset = Literal["compact", "zoo", "paper"]
COMPACT_KIMG, ZOO_KIMG = 200.0, 400.0
GROWTH_KIMG, GROWTH_SHARE = 20.0, 0.4  # of a compact run, for each size below the last one; and at most, in all
COMPACT_PX = {"stylegan": 128, "stylegan2": 128, "pathologygan": 112}

# (setting, as the paper or its code states it, as it takes effect)
STATED: dict[str, tuple[tuple[str, str, str], ...]] = {
    "stylegan": (
        ("minibatch", "4", "8 at 256 px: a table by resolution overrides the stated base"),
        ("mirror", "not stated", "on, as in every published preset of the code"),
        ("length", "not stated", "25,000 kimg, the code's default"),
    ),
    "stylegan2": (
        ("initial resolution", "8", "none: config-f does not grow"),
        ("mirror", "on", "on"),
        ("length", "not stated", "25,000 kimg, the code's default"),
    ),
    "pathologygan": (
        ("training images", "100,000", "80,000: the authors' script keeps the first 80 % of the folder's listing"),
        ("image size", "256", "224: resampled by the authors' script, which detectors can learn"),
        ("z", "200 in the README", "128 in the training script"),
        ("epochs", "45", "45, of which the last is never saved: 3,600 kimg in all"),
        ("beta2", "0.9", "0.999: the relativistic branch drops the argument"),
        ("orthogonal regularisation", "on", "none: no loss ever collects it"),
        ("gradient penalty", "per image", "one norm per colour channel for the whole batch, summed"),
    ),
}


def preset(family: str, name: Preset = "compact", *, resolution: int | None = None, **changes: Any) -> TrainConfig:
    """The config of a family's preset, with ``changes`` to single settings.

    Args:
        family: "stylegan", "stylegan2" or "pathologygan".
        name: "compact", "zoo" (what made the shipped generators) or "paper".
        resolution: Side of the images, pixels; None: 256, 256 and 224 for paper, 128, 128 and 112 for the others.
        changes: Settings of `TrainConfig` to put in place of the preset's.

    Raises:
        ConfigError: An unknown family or preset, or a setting out of range.
    """
    require(family in FAMILIES, "family", f"one of {', '.join(FAMILIES)}", family)
    require(name in get_args(Preset), "preset", f"one of {', '.join(get_args(Preset))}", name)
    match name:
        case "compact":
            config = _compact(family, resolution or COMPACT_PX[family], changes.get("kimg", COMPACT_KIMG))
        case "zoo":
            config = _zoo(family, resolution or COMPACT_PX[family])
        case "paper":
            config = _paper(family, resolution)
        case _:
            assert_never(name)
    return replace(config, **changes)


def _paper(family: str, resolution: int | None) -> TrainConfig:
    size: dict[str, Any] = {} if resolution is None else {"resolution": resolution}
    network = FAMILIES[family].config(**size)
    if family == "stylegan":
        return TrainConfig(
            family=family, network=network, kimg=25_000, batch=4, growth=Growth(), orientations="mirror",
            batch_at=((4, 128), (8, 128), (16, 128), (32, 64), (64, 32), (128, 16), (256, 8), (512, 4)),
            lr_g=0.001, lr_d=0.001, lr_at=((128, 0.0015), (256, 0.002), (512, 0.003), (1024, 0.003)),
            stated=STATED[family],
        )  # fmt: skip
    if family == "stylegan2":
        return TrainConfig(
            family=family, network=network, kimg=25_000, batch=32, micro_batch=4, orientations="mirror",
            r1_every=16, path_weight=2.0, stated=STATED[family],
        )  # fmt: skip
    return TrainConfig(
        family=family, network=network, kimg=3_600, batch=64, g_every=5, lr_g=1e-4, lr_d=1e-4, betas=(0.5, 0.999),
        style_mixing=0.5, r1_gamma=0.0, gradient_penalty=0.65, ema_kimg=None, order="file", stated=STATED[family],
    )  # fmt: skip


def _compact(family: str, resolution: int, kimg: float) -> TrainConfig:
    """Narrow networks and small-data habits: all eight orientations, shifts before D, a short average.

    Tuned for what two cores can do in two minutes: many small steps, most of them at low resolution. Against the
    published runs: growth from 16, 28 or 32 px for all three, small batches, a higher learning rate, lazy R1 with a
    smaller weight (StyleGAN, StyleGAN2), no path length; PathologyGAN without its gradient penalty (the spectral norm
    already bounds D), with G at every third step, the StyleGANs' betas and an averaged generator.
    """
    shared: dict[str, Any] = {
        "family": family, "network": FAMILIES[family].config("compact", resolution=resolution), "kimg": kimg,
        "batch": 8, "lr_g": 0.003, "lr_d": 0.003, "orientations": "dihedral",
        "diff_augment": ("translation",), "ema_kimg": 5.0,
        "ema_ramp": 0.1, "r1_gamma": 1.0, "r1_every": 16, "snapshot_kimg": min(2.0, kimg / 5),
        "threads": 1,  # narrow networks gain nothing from a second one, and stall where another program has the core
    }  # fmt: skip
    match family:
        case "stylegan":
            growth = _short_growth(32, resolution, kimg, fades=True)
            # each new size brings ToRGB layers that draw wild colours, so many small steps are worth more there
            shared |= {"batch_at": ((64, 4), (128, 4)), "lr_g": 0.004, "lr_d": 0.002}
        case "stylegan2":
            growth = _short_growth(16, resolution, kimg)
        case _:
            growth = _short_growth(28, resolution, kimg)
            # with G at every step D, held down by its norms, stays at chance
            shared |= {"batch": 16, "g_every": 3, "lr_g": 0.002, "lr_d": 0.002, "style_mixing": 0.5, "r1_gamma": 0.0}
    return TrainConfig(growth=growth, **shared)


def _zoo(family: str, resolution: int) -> TrainConfig:
    """Wider than compact, at a lower learning rate and in bf16 where that is allowed: for hours on one core.

    In the StyleGANs the low resolutions come first and long, because they are cheap there: layout at 32 px, tissue at
    64, nuclei at 128. PathologyGAN begins at full size.
    """
    shared: dict[str, Any] = {
        "family": family, "network": FAMILIES[family].config("zoo", resolution=resolution), "kimg": ZOO_KIMG,
        "batch": 8, "lr_g": 0.0025, "lr_d": 0.0025, "orientations": "dihedral", "diff_augment": ("translation",),
        "ema_kimg": 5.0, "ema_ramp": 0.1, "r1_gamma": 1.0, "r1_every": 16, "precision": "bf16",
        "snapshot_kimg": 2.0, "cooldown_kimg": 30.0, "threads": 1,
    }  # fmt: skip
    growth: Growth | None
    match family:
        case "stylegan":
            growth = _long_growth(resolution, stable=(15.0, 6.0), fade=(15.0, 10.0))
        case "stylegan2":
            growth = _long_growth(resolution, stable=(30.0, 16.0), fade=(0.0, 0.0))
        case _:
            growth = None  # each new size undid what the one before had learnt
            shared |= {
                "lr_g": 1.5e-4, "lr_d": 4e-4, "style_mixing": 0.5, "r1_gamma": 0.25, "r1_every": 8,
                "diversity": 40.0,  # at a quarter of it layouts came again from 12 kimg on, without it from the start
                "cooldown_kimg": 12.0,
            }  # fmt: skip
    return TrainConfig(growth=growth, **shared)


def _long_growth(resolution: int, stable: tuple[float, float], fade: tuple[float, float]) -> Growth | None:
    """A growth with the first of each pair of lengths at 32 px and the second at every size between it and the last."""
    start = Growth(initial_px=32)
    between = start.halvings(resolution) - 1
    if between < 0:
        return None
    lengths = [(first, *(later,) * between) for first, later in (stable, fade)]
    return replace(start, stable_kimg=lengths[0], fade_kimg=lengths[1])


def _short_growth(initial_px: int, resolution: int, kimg: float, *, fades: bool = False) -> Growth:
    """A growth that leaves most of a run, however short, to the full size."""
    halvings = max((resolution // initial_px).bit_length() - 1, 1)
    require(kimg > 0, "kimg", "above 0", kimg)
    stage = min(GROWTH_KIMG, GROWTH_SHARE * kimg / halvings)
    return Growth(
        initial_px=initial_px, stable_kimg=stage / 2 if fades else stage, fade_kimg=stage / 2 if fades else 0.0
    )
