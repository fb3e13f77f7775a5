"""From patch sets to a training set: whole groups calibrate, one size is judged, the codec is told."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from histoforensics.forensics.splits import held_out, real_groups, training_set
from histoforensics.slides import ConfigError, PatchError, PatchSet, PatchSetWriter


def write(folder, count, px=32, seed=0, codec=None, **fields):
    """A patch set of noise whose fields are given as functions of the row."""
    rng = np.random.default_rng(seed)
    with PatchSetWriter(folder) as writer:
        for i in range(count):
            patch = rng.integers(0, 256, (px, px, 3)).astype(np.uint8)
            told = {name: value(i) for name, value in fields.items()}
            writer.add(
                patch, **{"source_slide": "a", "label": "real", "codec": codec, "x_level0": i, "y_level0": 0} | told
            )
    return PatchSet.open(folder)


def seen(pixels):
    return {p.tobytes() for p in pixels}


def test_blocks_are_split_whole_and_the_parts_are_disjoint(tmp_path):
    real = write(tmp_path / "real", 40, block=lambda i: str(i // 5))
    fake = write(tmp_path / "fake", 20, seed=1, label=lambda i: "fake", generator=lambda i: ("one", "two")[i % 2])
    data = training_set([real], [fake], seed=0)
    assert (len(data.real), len(data.calibration_real)) == (30, 10)
    assert not set(data.real_groups) & set(data.calibration_real_groups)
    assert len(set(data.calibration_real_groups)) == 2
    assert seen(data.real) | seen(data.calibration_real) == seen(real.pixels())
    assert sorted(set(data.fake_groups)) == sorted(set(data.calibration_fake_groups)) == ["one", "two"]
    assert not seen(data.fake) & seen(data.calibration_fake)
    assert data.provenance["split_by"] == "block"
    assert data.provenance["fakes"] == ["one", "two"]


def test_same_seed_splits_alike_and_another_one_does_not(tmp_path):
    real = write(tmp_path / "real", 40, block=lambda i: str(i // 5))
    fake = write(tmp_path / "fake", 20, seed=1)
    first, again, other = (training_set([real], [fake], seed=s).calibration_real_groups for s in (0, 0, 3))
    assert first.tolist() == again.tolist() != other.tolist()


def test_coarsest_level_with_four_groups_splits():
    table = pd.DataFrame({
        "patient": [f"p{i // 10}" for i in range(30)],
        "source_slide": [f"s{i // 6}" for i in range(30)],
        "block": [str(i % 6) for i in range(30)],
    })  # fmt: skip
    assert real_groups(table)[0] == "source_slide"
    assert real_groups(table.assign(patient=[f"p{i // 5}" for i in range(30)]))[0] == "patient"
    assert real_groups(table.assign(source_slide="one"))[0] == "block"
    level, groups = real_groups(table.assign(source_slide=None, patient=None))
    assert level == "patch"
    assert len(set(groups)) == 30


def test_equal_block_names_of_two_slides_are_two_groups():
    table = pd.DataFrame({"patient": None, "source_slide": ["a", "a", "b", "b"], "block": ["0", "1", "0", "1"]})
    assert len(set(real_groups(table)[1])) == 4


def test_plain_folders_are_split_patch_by_patch_and_the_card_says_so(tmp_path):
    for name in ("real", "gan"):
        (tmp_path / name).mkdir()
        for i in range(8):
            pixels = np.random.default_rng(i + 100 * (name == "gan")).integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = training_set([PatchSet.open(tmp_path / "real")], [PatchSet.open(tmp_path / "gan")])
    assert (len(data.real), len(data.calibration_real)) == (6, 2)
    assert set(data.fake_groups) == {"gan"}
    assert any("split one by one" in limit for limit in data.provenance["limits"])


def test_larger_patches_are_cropped_to_the_smallest_size_and_crops_stay_together(tmp_path):
    real = write(tmp_path / "real", 8, px=64)
    fake = write(tmp_path / "fake", 8, px=32, seed=1)
    data = training_set([real], [fake])
    assert data.real.shape[1:] == data.fake.shape[1:] == (32, 32, 3)
    assert (len(data.real), len(data.calibration_real)) == (24, 8)
    with pytest.raises(PatchError, match="fake: 32 x 32 px is smaller than the 48 x 48 px"):
        training_set([real], [fake], patch_px=48)


def test_codecs_that_differ_between_the_classes_are_told(tmp_path):
    real = write(tmp_path / "real", 8, codec="jpeg")
    same, other = write(tmp_path / "same", 8, seed=1, codec="jpeg"), write(tmp_path / "other", 8, seed=2)
    matched, raw = training_set([real], [same]).provenance, training_set([real], [other]).provenance
    assert matched["codec_policy"] == "both classes alike: jpeg"
    assert not any("codec" in limit for limit in matched["limits"])
    assert raw["codec_policy"].startswith("as found")
    assert any("this may be a codec detector" in limit for limit in raw["limits"])


def test_held_out_share_leaves_at_least_one_group_on_each_side():
    rng = np.random.default_rng(0)
    for count in (2, 3, 4, 20):
        mask = held_out(np.arange(count).astype(str), 0.25, rng)
        assert mask.sum() == max(1, round(count / 4))
    with pytest.raises(PatchError, match="gan: fake patches of only 1 group cannot be split"):
        held_out(np.array(["a", "a"]), 0.25, rng, "gan: fake")


def test_sets_that_cannot_train_are_refused(tmp_path):
    real = write(tmp_path / "real", 8)
    with pytest.raises(PatchError, match="1 real and 0 fake patch sets; a detector is trained on both classes"):
        training_set([real], [])
    with pytest.raises(ConfigError, match="calibration_share must be between 0 and 1, got 1"):
        training_set([real], [real], calibration_share=1)
