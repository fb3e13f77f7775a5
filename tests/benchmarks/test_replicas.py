"""Stand-ins as fakes: dealt from the tissue of their own split, sharing no pixel with a real patch."""

import numpy as np
import pytest
from PIL import Image

from histoforensics.benchmarks.config import BenchmarkConfig
from histoforensics.benchmarks.generalization import HeldOut
from histoforensics.benchmarks.material import EXAM_REALS, Material
from histoforensics.benchmarks.replicas import Replicas, deal_tissue
from histoforensics.benchmarks.sources import open_tissue
from histoforensics.benchmarks.splits import ROLES, SplitRule
from histoforensics.slides import PatchError
from histoforensics.slides.synthetic import purple_tissue

KERNELS = ("nearest", "bilinear")
RULE = {"by": "patient", "train": ("P0", "P1"), "calibration": ("P2",), "exam": ("P3",)}


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """Eight images of 160 px, two of each of four patients: 50 disjoint patches of 32 px each."""
    folder = tmp_path_factory.mktemp("tissue")
    for i in range(8):
        Image.fromarray(purple_tissue((160, 160), np.random.default_rng(i))).save(folder / f"{i}.png")
    table = folder / "patients.csv"
    table.write_text("file,patient\n" + "".join(f"{i}.png,P{i % 4}\n" for i in range(8)))
    return open_tissue(BenchmarkConfig(real=(folder,), splits=SplitRule(table=table, **RULE), patch_px=32, mpp=0.6), {})


@pytest.fixture(scope="module")
def material(tissue, tmp_path_factory):
    out = tmp_path_factory.mktemp("material")
    replicas = Replicas(tissue, KERNELS, 0)
    replicas.write_real(out / "real")
    for kernel in KERNELS:
        replicas.write_fakes(kernel, out / kernel)
    return Material.open(out / "real", {kernel: out / kernel for kernel in KERNELS})


def test_no_patch_is_dealt_twice_and_reals_are_at_most_half(tissue):
    for role in ROLES:
        parts = deal_tissue(tissue, role, KERNELS, 0)
        places = [place for cut in parts.values() for place in zip(cut.sources, cut.x, cut.y, strict=True)]
        assert len(set(places)) == len(places)
        assert all(x % 32 == y % 32 == 0 for _, x, y in places)  # on a grid of whole patches none can overlap
        assert 20 <= len(parts["real"]) <= 25 * (1 + (role == "train"))
        assert len({len(parts[kernel]) for kernel in KERNELS}) == 1


def test_the_dealing_depends_on_the_seed_alone(tissue):
    one, same, other = (deal_tissue(tissue, "train", KERNELS, seed)["real"] for seed in (0, 0, 1))
    assert (one.pixels == same.pixels).all()
    assert list(zip(one.sources, one.x, one.y, strict=True)) != list(zip(other.sources, other.x, other.y, strict=True))


def test_every_patch_has_its_patient_and_no_patient_two_roles(material):
    by_role = {}
    for role in ROLES:
        sets = [material.real[role], *(roles[role] for roles in material.fakes.values())]
        by_role[role] = {str(name) for patches in sets for name in patches.table["patient"]}
    assert by_role == {"train": {"P0", "P1"}, "calibration": {"P2"}, "exam": {"P3"}}
    assert len(material.real[EXAM_REALS]) == len(material.real["exam"])


def test_stand_ins_are_resampled_tissue_of_the_same_colours(material):
    real, fake = material.real["exam"].pixels(), material.fakes["nearest"]["exam"].pixels()
    assert np.abs(real.mean((0, 1, 2)) - fake.mean((0, 1, 2))).max() < 12
    fine = [np.abs(np.diff(p.astype(float), axis=2)[:, :, ::2]).mean() for p in (real, fake)]
    assert fine[1] < 0.7 * fine[0]  # within the pairs of an enlargement by two


def test_held_out_fakes_are_resampled_by_patient_as_reals_are(material):
    test = HeldOut.of(material.real["exam"], {name: roles["exam"] for name, roles in material.fakes.items()})
    assert set(test.table["block"]) == {"P3"}


def test_too_little_tissue_is_told(tissue):
    with pytest.raises(PatchError, match=r"50 disjoint patches of the exam split are too few for real ones and 20 ker"):
        deal_tissue(tissue, "exam", tuple(f"k{i}" for i in range(20)), 0)
