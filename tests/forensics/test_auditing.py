"""Comparisons that are known to be fair or not, and what the audit says of them."""

import json

import pytest
from PIL import Image

from histoforensics.forensics.audit_report import tables, write_audit
from histoforensics.forensics.auditing import audit
from histoforensics.forensics.augment import jpeg, stain_jitter
from histoforensics.slides import Codec, DetectorError, JpegGeneration, PatchError, PatchSet, PatchSetWriter
from histoforensics.slides.codec import standard_table

EACH, PX = 48, 48


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    base = tmp_path_factory.mktemp("audit")

    def put(name, pixels, label, **fields):
        with PatchSetWriter(base / name, overwrite=True) as writer:
            for i, patch in enumerate(pixels):
                own = {"source_slide": f"slide {i // 4}"} if label == "real" else {"generator": "gan"}
                writer.add(patch, label=label, mpp=0.5, **{**own, **fields})
        return PatchSet.open(base / name)

    return put


@pytest.fixture(scope="module")
def patches(tissue):
    return tissue(2 * EACH, PX)


@pytest.fixture(scope="module")
def real(write, patches):
    return write("real", patches[:EACH], "real")


def codes(told):
    return [one.code for one in told]


def test_tissue_against_tissue_of_the_same_source_is_fair(write, patches, real):
    told = []
    found = audit(
        real, write("same", patches[EACH:], "fake"), same_source=True, n_boot=200,
        progress=lambda done, total, note="": told.append((done, total)),
    )  # fmt: skip
    assert (found.verdict, found.easy, codes(found.reasons)) == ("fair", False, [])
    assert found.sentence.startswith("This comparison is fair as far as this audit can see, because no known pixel")
    assert told == [(i, 7) for i in range(1, 8)]
    assert found.counts["real_groups"] == 12
    assert "codec-unknown" in codes(found.notes)


def test_codec_of_one_class_makes_it_unfair_and_matching_cures_it(write, patches, real, tmp_path):
    generation = JpegGeneration((standard_table(30),) * 3, "4:4:4", "ycbcr")
    coded = write("coded", jpeg(patches[EACH:], 30, subsampling="4:4:4"), "fake", codec="jpeg")
    found = audit(real, coded, same_source=True, n_boot=200, codec=Codec("jpeg", (generation,), 240, 240))
    assert found.verdict == "not fair"
    assert {"pixel-history", "codec"} <= set(codes(found.reasons)) | {"codec"}
    assert set(codes(found.reasons)) & {"codec", "blockiness"}
    assert "codec goes with the label (Cramér's V 1.00): most often not told (100 %) in reals, jpeg (100 %)" in (
        found.sentence
    )
    assert found.findings.controls["blockiness"].auc > 0.95
    assert found.findings.matched_blockiness.auc < 0.75
    told = json.loads((write_audit(found, tmp_path) / "audit.json").read_text())
    assert told["verdict"] == "not fair"
    assert {tuple(sorted(cell)) for cell in told["codec_swap"]["cells"]} == {("auc", "ci95", "judged_on", "trained_on")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["associations.csv", "audit.json", "reasons.csv"]
    assert next(iter(tables(found))) == "Trivial cues"


def test_copies_between_the_sets_and_other_tissue_are_reasons(write, patches, real):
    pale = stain_jitter(patches[EACH:], 0.4)
    pale[:5] = patches[:5]
    found = audit(real, write("pale", pale, "fake"), n_boot=200)
    assert codes(found.reasons)[0] == "leak"
    assert "5 patches stand in both sets, pixel for pixel" in found.sentence
    assert found.easy
    assert "source-unknown" in codes(found.notes)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_plain_folders_of_two_formats_and_sizes_are_audited(patches, tmp_path):
    for folder, ending, part in (("real", "jpg", patches[:EACH]), ("fake", "png", patches[EACH:, :40, :40])):
        (tmp_path / folder).mkdir()
        for i, patch in enumerate(part):
            Image.fromarray(patch).save(
                tmp_path / folder / f"{i}.{ending}", **({"quality": 60} if ending == "jpg" else {})
            )
    found = audit(PatchSet.open(tmp_path / "real"), PatchSet.open(tmp_path / "fake"), same_source=False, n_boot=200)
    assert {"pixel-history", "tissue"} <= set(codes(found.reasons))
    assert {"size", "groups-unknown"} <= set(codes(found.notes))
    assert "file_lossy" in found.sentence
    assert found.counts["patch_px"] == 40
    assert str(tmp_path) not in json.dumps(found.to_json())


def test_same_seed_gives_the_same_audit(write, patches, real):
    fake = write("again", patches[EACH : EACH + 20], "fake")
    first, second = (audit(real, fake, seed=3, n_boot=100, most=20).to_json() for _ in range(2))
    for told in (first, second):
        del told["counts"]["seconds"]
    assert first == second
    assert first["counts"]["real_looked_at"] == 20


def test_sets_that_cannot_be_audited_are_told(write, patches, real):
    with pytest.raises(PatchError, match="few: 5 patches are too few to audit; at least 16"):
        audit(real, write("few", patches[:5], "fake"))
    with pytest.raises(PatchError, match="real: 48 of 48 patches are labelled real, not fake"):
        audit(real, real)
    with pytest.raises(PatchError, match="a patch is only 20 px wide or high"):
        audit(real, write("tiny", patches[:20, :20, :20], "fake"))
    with pytest.raises(DetectorError, match="unknown detector 'fft'"):
        audit(real, real, detector="fft")
