"""Generators beside a study: judged against its tissue and against their own, by judges that learned from none."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoforensics.benchmarks.beside import Beside, called
from histoforensics.benchmarks.config import BenchmarkConfig
from histoforensics.benchmarks.material import write_cut
from histoforensics.benchmarks.sources import open_tissue
from histoforensics.benchmarks.tissue import SlideTissue
from histoforensics.slides import PatchSet, PatchSetWriter, Slide
from histoforensics.slides.synthetic import purple_tissue, write_svs

PX = 48


class Judge:
    """Takes what is dark for fake."""

    def score(self, pixels):
        return (1 - pixels.mean((1, 2, 3)) / 255).astype(np.float32)

    def verdicts(self, scores):
        return np.where(scores > 0.5, "fake", "real")


@contextmanager
def silent(_title):
    yield lambda done, total, note="": None


@pytest.fixture
def beside(tmp_path):
    folder = tmp_path / "colon"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(purple_tissue((96, 96), np.random.default_rng(i))).save(folder / f"{i}.png")
    foreign = open_tissue(BenchmarkConfig(real=(folder,), patch_px=PX, mpp=0.62), {})
    path = write_svs(tmp_path / "skin.svs", purple_tissue((600, 600), np.random.default_rng(9)), mpp=0.5, quality=60)
    own = SlideTissue([Slide.open(path)], PX)
    rng = np.random.default_rng(5)
    with PatchSetWriter(tmp_path / "fakes") as writer:
        for _ in range(12):
            writer.add(rng.integers(0, 90, (64, 64, 3), np.uint8), label="fake", generator="G")
    sampled = {"G": PatchSet.open(tmp_path / "fakes")}
    return Beside(tmp_path / "work", sampled, foreign, own, 0, silent), foreign, tmp_path


def test_both_comparisons_have_an_audit_aucs_and_verdicts_and_the_fakes_keep_their_own_scale(beside):
    beside, foreign, folder = beside
    write_cut(foreign, foreign.cut("exam", disjoint=True, limit=9, rng=np.random.default_rng(0)), folder / "real", True)
    told, tables = beside.judged(PatchSet.open(folder / "real"), {"dark": Judge()})
    assert (told["tissue"], told["mpp"]) == ("skin", 0.5)
    for where in ("foreign", "own"):
        assert told[where]["auc"]["dark"]["G"]["auc"] == 1.0  # noise of at most 90 against tissue
        assert told[where]["called"]["dark"]["G"] == {"real": 0.0, "fake": 1.0, "unsure": 0.0}
        assert told[where]["audit"]["verdict"] == "not audited"  # twelve patches are too few to audit
    fakes = {where: PatchSet.open(folder / "work" / where / "fakes" / "G" / "exam") for where in ("foreign", "own")}
    assert {float(v) for part in fakes.values() for v in part.table["mpp"]} == {0.5}
    assert (fakes["foreign"].pixels() < 90).all()  # the colon has no codec to take on
    assert not (fakes["own"].pixels() < 90).all()
    assert {name for table in tables for name in table["detector"]} == {"dark, beside, foreign", "dark, beside, own"}


def test_shares_of_verdicts_are_told_of_reals_and_of_each_generator():
    scores = pd.DataFrame({
        "detector": "d", "label": ["real"] * 4 + ["fake"] * 4, "generator": [None] * 4 + ["A", "A", "B", "B"],
        "verdict": ["real", "real", "fake", "unsure", "fake", "fake", "real", "unsure"],
    })  # fmt: skip
    assert called(scores) == {"d": {
        "real": {"real": 0.5, "fake": 0.25, "unsure": 0.25}, "A": {"real": 0.0, "fake": 1.0, "unsure": 0.0},
        "B": {"real": 0.5, "fake": 0.0, "unsure": 0.5},
    }}  # fmt: skip
