"""`histoforensics doctor`: does this installation work?"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from .console import out

PACKAGES = (
    "histoforensics",
    "torch",
    "torchvision",
    "timm",
    "openslide-python",
    "openslide-bin",
    "numpy",
    "scikit-learn",
)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Report versions and devices, then open a synthetic slide, score it and read the score back.

    Ends with exit code 1 when a check fails.

    Example: histoforensics doctor
    """
    facts = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    facts |= {name: _installed(name) for name in PACKAGES}
    facts["devices"] = ", ".join(_devices())
    checks = {"slide": _try(_synthetic_slide), "detector": _try(_detector), "generator": _try(_generator)}
    if as_json:
        typer.echo(json.dumps({"facts": facts, "checks": checks}, indent=2))
    else:
        for name, fact in facts.items():
            out.print(f"{name:18} {fact}", markup=False)
        for name, result in checks.items():
            out.print(f"{name:18} {result}", style="green" if result.startswith("ok") else "bold red", markup=False)
    if not all(result.startswith("ok") for result in checks.values()):
        raise typer.Exit(1)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    import torch

    cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return [f"cpu ({torch.get_num_threads()} threads)", *cuda]


def _try(check: Callable[[], str]) -> str:
    try:
        return f"ok: {check()}"
    except Exception as err:  # noqa: BLE001 - a doctor reports whatever went wrong
        return f"failed: {type(err).__name__}: {err}"


def _synthetic_slide() -> str:
    import numpy as np

    from histoforensics.slides import Slide
    from histoforensics.slides.synthetic import purple_tissue, write_svs

    tissue = purple_tissue((600, 700), np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.svs"
        write_svs(path, tissue)
        with Slide.open(path) as slide:
            read = slide.read(0, 0, 256, 256)
            error = float(np.abs(read.astype(float) - tissue[:256, :256]).mean())
            if error > 8.0:
                raise ValueError(f"the synthetic slide reads back {error:.1f} grey levels off")
            return (
                f"synthetic Aperio slide {slide.dimensions[0]} x {slide.dimensions[1]} px, {slide.mpp} um/px, read back"
            )


def _detector() -> str:
    import numpy as np

    from histoforensics.forensics import DETECTORS

    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 255, (16, 32, 32, 3)), 2, axis=1), 2, axis=2)
    noise = rng.integers(0, 255, (16, 64, 64, 3))
    pixels, labels = np.concatenate([noise, smooth]).astype(np.uint8), np.repeat([0, 1], 16)
    scores = DETECTORS["wht-lr"].fit(pixels, labels, seed=0).score(pixels)
    if not scores[labels == 1].min() > scores[labels == 0].max():
        raise ValueError("a detector fitted on noise and blocks does not tell them apart")
    return "wht-lr fitted and told noise from blocks"


def _generator() -> str:
    import torch

    from histoforensics.generators import FAMILIES

    for family in FAMILIES.values():
        G, _ = family.build(family.config("compact"))
        with torch.inference_mode():
            images = G(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(0)))
        if not bool(torch.isfinite(images).all()):
            raise ValueError(f"{family.name} made a value that is not finite")
    return f"{', '.join(FAMILIES)} each made an image"
