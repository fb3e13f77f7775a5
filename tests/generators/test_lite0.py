"""Pretrained weights land in the right places, and nothing unsafe is read."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from skimage import data

from histoforensics.generators.lite0 import (
    EfficientNetLite0Features,
    lite0_name_map,
    lite0_state,
    read_tensors,
    renamed,
    to_unit_range,
)
from histoforensics.slides.errors import DetectorError, PatchError


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0Features()


def chelsea():
    whole = Image.fromarray(data.chelsea()).resize((224, 224), Image.Resampling.BICUBIC)
    return np.array(whole)[None]


def test_every_tensor_has_one_name_and_the_right_shape():
    theirs, ours = lite0_state(), timm.create_model("tf_efficientnet_lite0").state_dict()
    assert len(theirs) == len(lite0_name_map()) == 296
    assert {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}


def test_chelsea_is_an_egyptian_cat():
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(lite0_state())
    with torch.inference_mode():
        probabilities = network(to_unit_range(torch.from_numpy(chelsea()))).softmax(1)[0]
    assert int(probabilities.argmax()) == 285  # ImageNet's "Egyptian cat"
    assert probabilities[281:286].sum() > 0.9  # the five cats


def test_features_are_what_the_classifier_reads(extractor):
    cat = chelsea()
    features = extractor.features(cat)
    assert features.shape == (1, 1280)
    assert features.dtype == np.float32
    state = lite0_state()
    logits = features @ state["classifier.weight"].numpy().T + state["classifier.bias"].numpy()
    assert int(logits.argmax()) == 285


def test_features_do_not_depend_on_the_batch_and_no_patches_give_none(extractor):
    patches = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(extractor.features(patches), extractor.features(patches, batch=2), atol=1e-4)
    assert extractor.features(patches[:0]).shape == (0, 1280)


def test_resizing_to_the_trained_size_changes_smaller_patches_only():
    extractor = EfficientNetLite0Features(input_px=224)
    same = EfficientNetLite0Features()
    cat = chelsea()
    np.testing.assert_array_equal(extractor.features(cat), same.features(cat))
    half = cat[:, ::2, ::2]
    assert np.abs(extractor.features(half) - same.features(half)).max() > 0.1


def test_features_refuse_other_arrays(extractor):
    with pytest.raises(PatchError, match=r"must be uint8 \(n, h, w, 3\), got float64"):
        extractor.features(np.zeros((1, 8, 8, 3)))


def test_tensor_files_are_read_in_both_formats_and_below_the_published_keys(tmp_path):
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    torch.save(tensors, tmp_path / "w.pth")
    torch.save({"model": tensors}, tmp_path / "model.pth")
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "state.pth")
    for name in ("w.safetensors", "w.pth", "model.pth", "state.pth"):
        got = read_tensors(tmp_path / name)
        assert {k: v.tolist() for k, v in got.items()} == {k: v.tolist() for k, v in tensors.items()}


class Unsafe:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"a": torch.ones(1), "b": Unsafe()}, tmp_path / "bad.pth")
    with pytest.raises(DetectorError, match=r"^bad\.pth: not a weights file that is safe to read"):
        read_tensors(tmp_path / "bad.pth")
    assert "never" not in capsys.readouterr().out


def test_missing_broken_and_foreign_files_are_named(tmp_path):
    with pytest.raises(DetectorError, match=r"^none\.pth: no such weights file\.$"):
        read_tensors(tmp_path / "none.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"not tensors")
    with pytest.raises(DetectorError, match=r"^broken\.safetensors: not a weights file"):
        read_tensors(tmp_path / "broken.safetensors")
    (tmp_path / "broken.pth").write_bytes(b"")
    with pytest.raises(DetectorError, match=r"^broken\.pth: not a weights file"):
        read_tensors(tmp_path / "broken.pth")
    torch.save({"a": 3}, tmp_path / "numbers.pth")
    with pytest.raises(DetectorError, match="a mapping of names to tensors is wanted"):
        read_tensors(tmp_path / "numbers.pth")


def test_other_weights_are_not_renamed():
    with pytest.raises(DetectorError, match=r"1 tensors are missing \['b'\] and 1 are unknown \['c'\]"):
        renamed({"a": torch.ones(1), "c": torch.ones(1)}, {"a": "x", "b": "y"}, "file")
