"""The control that opens no image: fields that tell the classes are found, and equal ones tell nothing."""

import numpy as np
import pytest
from PIL import Image

from histoforensics.forensics.metadata import metadata_control, metadata_features
from histoforensics.slides import PatchError, PatchSet


def folder(path, count, seed, levels=256, ending=".png"):
    rng = np.random.default_rng(seed)
    path.mkdir()
    for i in range(count):
        Image.fromarray(rng.integers(0, levels, (24, 24, 3)).astype(np.uint8)).save(path / f"{i:03d}{ending}")
    return PatchSet.open(path)


@pytest.fixture
def sets(tmp_path):
    return folder(tmp_path / "real", 24, 0), folder(tmp_path / "same", 24, 1)


def told(patches, **columns):
    return PatchSet(patches.root, patches.table.assign(**columns), patches.card)


def test_sets_made_alike_cannot_be_told(sets):
    control = metadata_control(*sets)
    assert control.found.holds(0.5)
    assert control.scores.shape == (48,)


def test_file_sizes_and_endings_tell_at_once(sets, tmp_path):
    simple = folder(tmp_path / "gan", 24, 2, levels=8)
    found = metadata_control(sets[0], simple)
    assert found.found.auc == 1
    assert "file_bytes" in found.fields
    other = folder(tmp_path / "tif", 24, 3, ending=".tif")
    assert metadata_control(sets[0], other).found.auc == 1


@pytest.mark.parametrize("columns", [{"codec": "jpeg"}, {"mpp": 0.25}, {"resample_kernel": "lanczos"}])
def test_a_field_that_one_class_alone_has_tells_at_once(sets, columns):
    control = metadata_control(sets[0], told(sets[1], **columns))
    assert control.found.auc == 1
    assert set(columns) <= set(control.fields)


def test_what_names_the_origin_is_not_asked(sets):
    same = told(sets[0], generator="gan", seed=range(24), source_slide="x", x_level0=range(24))
    control = metadata_control(sets[0], same)
    assert control.found.auc == pytest.approx(0.5, abs=0.35)
    assert not {"generator", "seed", "source_slide", "x_level0"} & set(metadata_features(same))


def test_groups_of_real_patches_are_kept_whole(sets):
    patients = told(sets[0], patient=[f"p{i // 3}" for i in range(24)])
    assert metadata_control(patients, sets[1]).found.n_groups == 8 + 24


def test_missing_files_and_too_few_groups_are_told(sets, tmp_path):
    (tmp_path / "same" / "003.png").unlink()
    with pytest.raises(PatchError, match=r"same: 1 files are missing, the first is 003\.png"):
        metadata_control(*sets)
    with pytest.raises(PatchError, match="2 folds need at least 4 groups"):
        metadata_control(sets[0].where(np.arange(24) < 3), sets[0])
