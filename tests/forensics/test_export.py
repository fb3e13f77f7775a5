"""What other runtimes get says what the detector says; a file that would not is never written."""

import io
import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from histoforensics.forensics import export
from histoforensics.forensics.cascade import CascadeDetector
from histoforensics.forensics.export import export_detector, probes, wsinfer_config
from histoforensics.forensics.fusion import FusionDetector
from histoforensics.forensics.registry import detector_class
from histoforensics.forensics.stacking import Stack
from histoforensics.slides import DetectorError
from histoforensics.slides.synthetic import purple_tissue

PX = 48
OPTIONS = {"npr": {"width": 4}, "patch-xception": {"width": 4}, "resnet": {"backbone": "test_resnet"}}
MEMBERS = ("radial-lr", "dct-ridge", "wht-lr")


def untrained(name, px=PX):
    """A detector with random weights."""
    torch.manual_seed(0)
    detector = detector_class(name)(px, **OPTIONS.get(name, {})).eval()
    if hasattr(detector, "weights"):
        torch.nn.init.normal_(detector.weights)
    return detector


def spread(detector):
    """The detector, calibrated so that its probabilities of the probes are neither all 0 nor all 1."""
    logits = detector.logits(probes(detector.patch_px))
    detector.scale.fill_(float(2 / logits.std()))
    detector.bias.fill_(float(-2 * logits.mean() / logits.std()))
    detector.real_below.fill_(0.4)
    detector.fake_above.fill_(0.6)
    return detector


def stacked(kind, members, **buffers):
    parts = [untrained(name) for name in members]
    logits = np.stack([part.logits(probes(PX)) for part in parts], axis=1)
    scales = 1 / logits.std(0)
    stack = Stack(
        scales=scales, biases=-scales * logits.mean(0), weights=np.arange(1.0, len(members) + 1), intercept=0.3
    )
    detector = kind.assembled(parts, stack)
    for name, value in buffers.items():
        getattr(detector, name).fill_(value)
    return spread(detector)


def make(name):
    if name == "fusion":
        return stacked(FusionDetector, MEMBERS)
    if name == "cascade":
        return stacked(CascadeDetector, ("wht-lr", "radial-lr"), margin=0.8)
    return spread(untrained(name))


def patches(count, px=PX, seed=5):
    rng = np.random.default_rng(seed)
    return np.stack([purple_tissue((px, px), rng) for _ in range(count)])


ALL = [*MEMBERS, "npr", "resnet", "patch-xception", "rgb", "slope", "blockiness", "fusion", "cascade"]


@pytest.mark.parametrize("name", ALL)
def test_onnxruntime_gives_the_detectors_probabilities_for_any_number_of_patches(name, tmp_path):
    detector = make(name)
    file, card = export_detector(detector, tmp_path)
    assert [file.name, card.name] == [f"{name}.onnx", f"{name}.card.json"]
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(uint8)", ["n", PX, PX, 3])
    assert (found.name, found.type, found.shape) == ("p_fake", "tensor(float)", ["n"])
    for count in (1, 5):
        wanted = detector.score(patches(count))
        np.testing.assert_allclose(session.run(None, {"pixels": patches(count)})[0], wanted, atol=1e-4)
    assert np.ptp(detector.score(probes(PX))) > 0.1  # they are not all alike, or nothing would be shown


@pytest.mark.parametrize("name", ["dct-ridge", "npr", "cascade"])
def test_torchscript_gives_the_same_as_a_softmax_over_real_and_fake(name, tmp_path):
    detector = make(name)
    file, _, _ = export_detector(detector, tmp_path, "torchscript", mpp=0.5)
    with pytest.warns(FutureWarning, match="deprecated"):  # torch's, of the loader that wsinfer uses
        network = torch.jit.load(io.BytesIO(file.read_bytes()))
    images = torch.from_numpy(patches(3)).permute(0, 3, 1, 2) / 255  # what ToTensor makes
    np.testing.assert_allclose(network(images).softmax(1)[:, 1].numpy(), detector.score(patches(3)), atol=1e-4)


def test_every_operator_is_of_the_plain_standard_set(tmp_path):
    model = onnx.load(export_detector(make("fusion"), tmp_path)[0])
    assert {(one.domain, one.version) for one in model.opset_import} == {("", 17)}
    assert not {node.op_type for node in model.graph.node} & {"DFT", "STFT", "Loop", "If", "Scan"}


def test_metadata_carry_the_thresholds_and_the_licence(tmp_path):
    model = onnx.load(export_detector(make("wht-lr"), tmp_path)[0])
    told = {one.key: one.value for one in model.metadata_props}
    assert float(told["real_below"]) == pytest.approx(0.4)
    assert float(told["fake_above"]) == pytest.approx(0.6)
    assert (told["detector"], told["patch_px"], told["licence"]) == ("wht-lr", str(PX), "not told")


def test_exporting_leaves_the_detector_as_it_was(tmp_path):
    detector = make("npr")
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    export_detector(detector, tmp_path)
    assert all(parameter.requires_grad for parameter in detector.parameters())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_a_file_that_disagrees_is_not_left_behind(tmp_path, monkeypatch):
    detector = make("wht-lr")
    monkeypatch.setattr(export, "portable_logits", lambda d: lambda pixels: d.forward(pixels) * 1.01)
    for form in ("onnx", "torchscript"):
        with pytest.raises(DetectorError, match=r"^wht-lr: .* differs from the detector by .* nothing was written"):
            export_detector(detector, tmp_path / "out", form, mpp=0.5)
    assert not (tmp_path / "out").exists()


def test_without_a_calibration_there_is_nothing_to_export(tmp_path):
    with pytest.raises(DetectorError, match=r"^wht-lr: not calibrated, so there is no P\(fake\) to export"):
        export_detector(untrained("wht-lr"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_config_has_what_wsinfer_wants():
    config = json.loads(json.dumps(wsinfer_config(make("wht-lr"), 0.25)))
    wanted = {"spec_version": "1.0", "architecture": "wht-lr", "num_classes": 2, "class_names": ["real", "fake"]}
    wanted |= {"patch_size_pixels": PX, "spacing_um_px": 0.25, "transform": [{"name": "ToTensor"}]}
    assert wanted.items() <= config.items()


def test_wsinfer_needs_one_resolution():
    detector = make("wht-lr")
    with pytest.raises(DetectorError, match=r"^wht-lr: its card tells no resolution, .* give it by --mpp"):
        wsinfer_config(detector)
    detector.card = replace(detector.card, mpp=0.5)
    assert wsinfer_config(detector)["spacing_um_px"] == 0.5
    with pytest.raises(DetectorError, match=r"trained at 0.5 um per pixel, --mpp says 0.25; leave it out"):
        wsinfer_config(detector, 0.25)
