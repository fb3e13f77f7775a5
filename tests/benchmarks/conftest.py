"""One small invented run, so that results, figures and report can be tested without training anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from histoforensics.benchmarks.exam import Exam, Marks
from histoforensics.benchmarks.examiner import build_exam
from histoforensics.benchmarks.generalization import Cell
from histoforensics.benchmarks.measures import measures
from histoforensics.benchmarks.perturbations import PERTURBATIONS
from histoforensics.benchmarks.probes import not_audited
from histoforensics.benchmarks.readers import ReaderKind
from histoforensics.benchmarks.results import GeneratorFacts, assemble
from histoforensics.benchmarks.robustness import summary
from histoforensics.benchmarks.study_build import build_study
from histoforensics.forensics.effects import effect_sizes, effects_by_reason
from histoforensics.forensics.morphology import FEATURES
from histoforensics.slides import PatchSet, PatchSetWriter

GANS = ("StyleGAN", "StyleGAN2", "PathologyGAN")
SKILL = {"radial-lr": 0.9, "npr": 0.97, "resnet": 0.6, "rgb": 0.55}
SIZE = 32
CONTROLS = ("rgb", "blockiness", "slope")


@dataclass(frozen=True, eq=False)
class Run:
    """What the invented benchmark found."""

    exam: Exam
    marks: dict[str, Marks]
    parts: dict[str, Any]  # arguments of `assemble`
    real: PatchSet
    fakes: dict[str, PatchSet]

    def results(self, **changes: Any) -> dict[str, Any]:
        return assemble(**(self.parts | changes))

    def scores(self) -> pd.DataFrame:
        rng = np.random.default_rng(5)
        return pd.DataFrame({
            "id": [f"p{i}" for i in range(8)],
            "label": ["real"] * 4 + ["fake"] * 4,
            "generator": [None] * 4 + ["StyleGAN"] * 4,
            "block": ["a", "a", "b", "b"] + [None] * 4,
            "detector": "npr",
            "trained_without": None,
            "score": rng.random(8).astype(np.float32),
            "verdict": ["real"] * 4 + ["fake"] * 4,
        })  # fmt: skip


def tissue(count: int, seed: int) -> np.ndarray:
    """Smooth purple noise, uint8 (count, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.normal(size=(count, 8, 8, 1)), np.ones((1, 4, 4, 1)))
    shade = coarse * 18 + rng.normal(0, 6, (count, SIZE, SIZE, 1)) + rng.normal(0, 12, (count, 1, 1, 1))
    return np.clip(np.array([170, 110, 165]) + shade, 0, 255).astype(np.uint8)


def _patches(path: Path, label: str, pixels: np.ndarray, **fields: Any) -> PatchSet:
    with PatchSetWriter(path, card={}) as writer:
        for i, patch in enumerate(pixels):
            place = {"x_level0": SIZE * i, "y_level0": 0, "block": f"{i // 4}-0"} if label == "real" else {}
            writer.add(patch, label=label, **fields, **place)
    return PatchSet.open(path)


def _marks(exam: Exam) -> dict[str, Marks]:
    rng = np.random.default_rng(11)
    marks = {}
    for name, skill in SKILL.items():
        truth = exam.key["truth"].to_numpy("U6")
        right = rng.random(len(truth)) < skill
        verdicts = np.where(right, truth, np.where(truth == "real", "fake", "real"))
        verdicts[rng.random(len(truth)) < 0.05] = "unsure"
        scores = np.where(verdicts == "fake", 0.9, np.where(verdicts == "real", 0.1, 0.5)).astype(np.float32)
        kind = ReaderKind.CONTROL if name in CONTROLS else ReaderKind.DETECTOR
        marks[name] = exam.grade([str(verdict) for verdict in verdicts], name, kind, scores)
    return marks


def held_out_scores(trained_without: str | None = None, seed: int = 3) -> pd.DataFrame:
    """Invented scores of every judge on 40 reals of 20 blocks and 24 fakes of each generator."""
    rng = np.random.default_rng(seed)
    generators = [None] * 40 + [name for name in GANS for _ in range(24)]
    parts = []
    for name, skill in SKILL.items():
        fake = np.array([generator is not None for generator in generators])
        score = np.clip(rng.normal(0.5 + (skill - 0.5) * np.where(fake, 0.6, -0.6), 0.15), 0.001, 0.999)
        verdict = np.where(score > 0.6, "fake", np.where(score < 0.4, "real", "unsure"))
        parts.append(pd.DataFrame({
            "id": [f"p{i}" for i in range(len(generators))], "label": np.where(fake, "fake", "real"),
            "generator": generators, "block": [f"b{i // 2}" if i < 40 else None for i in range(len(generators))],
            "detector": name, "trained_without": trained_without, "score": score.astype(np.float32),
            "verdict": verdict,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def judge(cut: float = 0.5) -> Any:
    """As much of a detector as `measures` looks at."""
    return SimpleNamespace(card=SimpleNamespace(calibration=SimpleNamespace(cut=cut)))


def _measured() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    unseen = pd.concat([held_out_scores(name, seed) for seed, name in enumerate(GANS)], ignore_index=True)
    told = measures(held_out_scores(), unseen, {name: judge() for name in SKILL}, CONTROLS)
    points = [(one.name, severity) for one in PERTURBATIONS for severity in one.severities]
    rows = [
        {
            "detector": name, "perturbation": perturbation, "severity": severity, "mean_change": 3.0 * (at > 0),
            "auc": skill, "auc_low": skill - 0.1, "auc_high": min(1.0, skill + 0.1), "tpr": skill, "tpr_low": 0.4,
            "tpr_high": 1.0, "fpr": 0.05 + 0.02 * at, "fpr_low": 0.0, "fpr_high": 0.9, "unsure": 0.1, "doubtful": 0.2,
            "fpr_trusted": 0.04, "n_real": 40, "n_fake": 40,
        }
        for name, skill in SKILL.items() if name not in CONTROLS
        for at, (perturbation, severity) in enumerate([("none", None), *points])
    ]  # fmt: skip
    features = {name: rng.normal(at, 1, (12, len(FEATURES))) for at, name in enumerate(("real", *GANS))}
    table = effect_sizes(features.pop("real"), features, n_boot=100)
    told["reasons"] = {
        "rows": table.to_dict("records"), "by_reason": effects_by_reason(table).to_dict("records"), "patches": 12,
        "why_not": None,
    }  # fmt: skip
    return told | {"robustness": {"rows": rows, "summary": summary(pd.DataFrame(rows)).to_dict("records")}}


def _inspection() -> dict[str, Any]:
    """An audit as `probes.audit_material` tells it."""
    cell = {"auc": 0.6, "ci95": [0.5, 0.7], "n_groups": 8}
    note = {"code": "few-groups", "sentence": "the reals come from only 6 groups", "number": 6.0}
    return not_audited("") | {
        "verdict": "fair", "sentence": "This comparison is fair as far as this audit can see.", "notes": [note],
        "cross_fitted_controls": dict.fromkeys(CONTROLS, cell),
    }  # fmt: skip


def _cell(auc: float, half: float = 0.06) -> Cell:
    return Cell(auc, (max(0.0, auc - half), min(1.0, auc + half)), 35, 200)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    real = _patches(root / "real", "real", tissue(33, 0), source_slide="skin")
    fakes = {name: _patches(root / name, "fake", tissue(25, 7 + i), generator=name) for i, name in enumerate(GANS)}
    exam = build_exam(real, fakes, root / "out" / "exam", seed=1)
    marks = _marks(exam)
    same = {name: {gan: _cell(min(1.0, skill + 0.02)) for gan in GANS} for name, skill in SKILL.items()}
    left = {name: {gan: _cell(skill - 0.04 * i) for i, gan in enumerate(GANS)} for name, skill in SKILL.items()}
    facts = {
        name: GeneratorFacts(
            source="trained in this run", resolution_px=128, seconds=110.0, kimg=2.4, published_kimg=25000.0,
            parameters_g=1_200_000, parameters_d=1_100_000, checkpoint_sha256="ab" * 32, psi=1.0, noise="random",
        )
        for name in GANS
    }  # fmt: skip
    parts: dict[str, Any] = {
        "exam": exam,
        "marks": marks,
        "generalization": left,
        "same_generator": same,
        "in_domain": {"radial-lr": _cell(0.95), "npr": _cell(0.99), "resnet": _cell(0.62), "rgb": _cell(0.58)},
        "placebo": {name: _cell(0.5, 0.08) for name in ("radial-lr", "npr", "resnet")},
        "raw_placebo": {name: _cell(0.99, 0.01) for name in ("radial-lr", "npr")},
        "permutation": {"radial-lr": _cell(0.51)},
        "run": {
            "config": {"seed": 0},
            "version": "0.1.0",
            "git": {"commit": "c0ffee", "dirty": False},
            "inputs": {"skin": "ed" * 32},
            "host": {"python": "3.11", "cpu_count": 2},
            "seconds": 640.2,
            "peak_memory_mb": 1800,
            "started_at": "2026-01-02T03:04:05+00:00",
        },
        "generators": facts,
        "splits": {"digest": "9f" * 32, "train_positions": 5027, "calibration_patches": 17, "exam_patches": 35},
        "codec": {
            "policy": "Both classes went through both known JPEG generations of the slide on its own grid.",
            "codec": {"skin": {"generations": [{"quality": 30, "phase": [7, 0]}, {"quality": 30, "phase": [0, 0]}]}},
            "unmatched": {"radial-lr": _cell(1.0, 0.0).to_json(), "rgb": _cell(0.6).to_json()},
        },
        "limits": ["One slide of one organ."],
        "inspection": _inspection(),
        "measured": _measured(),
    }
    return Run(exam, marks, parts, real, fakes)


@pytest.fixture(scope="session")
def study_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen study of 20 patches, 2 of them shown twice, and 3 for practice; copy it before writing into it."""
    root = tmp_path_factory.mktemp("study")
    real = _patches(root / "real", "real", tissue(24, 0), source_slide="skin", mpp=0.5)
    fakes = {name: _patches(root / name, "fake", tissue(12, 7 + i), generator=name) for i, name in enumerate(GANS[:2])}
    study = build_study(real, fakes, root / "exam", n_real=10, n_per_generator=5, practice=3, seed=2)
    return study.root
