"""A cohort of damaged slides: the run goes on, every slide has a verdict or a cause, and the good ones are unharmed.

HISTOFORENSICS_MUTANTS=500 makes it a study; HISTOFORENSICS_MUTANTS_TABLE names a file for its table.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from histoforensics.cli import app
from histoforensics.forensics import TrainingSet, train_detector
from histoforensics.slides.synthetic import GLASS, purple_tissue, write_svs

MUTANTS = int(os.environ.get("HISTOFORENSICS_MUTANTS", "13"))
SLIDE_SECONDS, SILENT_SECONDS, MEMORY_MB = 40.0, 20.0, 2000.0
CAUSES = {"error", "crash", "timeout", "memory"}


def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels and a thumbnail; a third of it is glass."""
    image = purple_tissue((640, 960), np.random.default_rng(0))
    image[:, 640:] = GLASS
    return write_svs(tmp_path_factory.mktemp("slide") / "good.svs", image, levels=2, quality=70)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (80, 64, 64, 3)).astype(np.uint8)
    soft = noise // 2 + np.roll(noise, 1, axis=1) // 2
    data = TrainingSet(real=noise[:40], fake=soft[:40], calibration_real=noise[40:], calibration_fake=soft[40:])
    return train_detector("wht-lr", data).save(tmp_path_factory.mktemp("detectors") / "wht-lr")


def test_every_kind_of_mutation_changes_the_slide_and_follows_from_its_seed(slide: Path) -> None:
    module, good = mutants(), slide.read_bytes()
    for seed in range(len(module.MUTATIONS)):
        name, data = module.mutate(good, seed)
        assert data != good, name
        assert module.mutate(good, seed) == (name, data)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of workers is watched on Linux")
def test_a_cohort_of_mutants_is_scanned_to_its_end(slide: Path, detector: Path, tmp_path: Path) -> None:
    module = mutants()
    folder = tmp_path / "mutants"
    folder.mkdir()
    paths = [module.write_mutant(slide, folder, seed) for seed in range(MUTANTS)]
    began = time.monotonic()
    result = CliRunner().invoke(
        app,
        [
            "scan", *map(str, paths), str(slide), "--detector", str(detector), "--out", str(tmp_path / "out"),
            "--workers", "2", "--slide-seconds", str(SLIDE_SECONDS), "--silent-seconds", str(SILENT_SECONDS),
            "--memory-mb", str(MEMORY_MB),
        ],
    )  # fmt: skip
    seconds = time.monotonic() - began
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    data = json.loads((tmp_path / "out" / "cohort.json").read_text())
    named = [row["slide"] for row in data["slides"] + data["failures"]]
    assert len(named) == len(set(named))
    assert sorted(name.rsplit("-", 1)[0] for name in named) == sorted(path.stem for path in [*paths, slide])
    assert any(name.startswith("good-") for name in (row["slide"] for row in data["slides"]))
    for failure in data["failures"]:
        assert failure["cause"] in CAUSES
        assert failure["message"].endswith(".")
        assert "\n" not in failure["message"]
        assert str(tmp_path) not in failure["message"]
    costs = json.loads((tmp_path / "out" / "run.json").read_text())["slides"]
    assert max(cost["seconds"] for cost in costs.values()) < SLIDE_SECONDS + 10
    _tell(data, costs, seconds)


def _tell(data: dict[str, Any], costs: dict[str, dict[str, float]], seconds: float) -> None:
    """Write the study's table where one is wanted: what became of each slide, why, and how long it took."""
    table = os.environ.get("HISTOFORENSICS_MUTANTS_TABLE")
    if not table:
        return
    rows = [("finished", "corrupt" if row["patches"]["corrupt"] else "", row["slide"], "") for row in data["slides"]]
    rows += [(row["cause"], row["kind"], row["slide"], row["message"]) for row in data["failures"]]
    longest = max(cost["seconds"] for cost in costs.values())
    lines = [f"# {len(rows)} slides in {seconds:.0f} s, the longest {longest:.1f} s"]
    lines += [f"# {count} {cause} {kind}" for (cause, kind), count in sorted(Counter(row[:2] for row in rows).items())]
    lines += ["\t".join([*row, f"{costs[row[2]]['seconds']:.1f}"]) for row in sorted(rows)]
    Path(table).write_text("\n".join(lines) + "\n")
