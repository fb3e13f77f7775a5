"""Files that are sound pickles of sound records, and still mean harm: endless structures, shared data, odd settings."""

from __future__ import annotations

import time
from collections import OrderedDict

import pytest
import torch

from histoforensics.generators.importing import import_checkpoint
from histoforensics.slides import CheckpointError


def laughs(levels: int = 60) -> list:
    """Two references to two references to ...: small in the file, endless in print."""
    value: list = ["ha"]
    for _ in range(levels):
        value = [value, value]
    return value


def refusal(layouts, path, value) -> str:
    layouts.write_pickle(path, value)
    started = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, path.parent / "out")
    assert time.monotonic() - started < 20  # endless would be years
    assert not (path.parent / "out").exists()
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.fixture(name="tensors")
def fixture_tensors(layouts):
    return layouts.ada_names(*layouts.lively("stylegan2"))[0]


def with_state(layouts, **state):
    module = layouts.persistent("Generator", {})
    module.reduced[1][0]["state"].update(state)
    return module


def test_modules_that_share_modules_without_end_are_refused(tmp_path, layouts):
    module = with_state(layouts)
    for _ in range(15):
        module = with_state(layouts, _modules=OrderedDict({str(i): module for i in range(50)}))
    assert "more modules than any network has" in refusal(layouts, tmp_path / "a.pkl", {"G_ema": module})


def test_modules_nested_deeply_are_refused(tmp_path, layouts):
    module = with_state(layouts)
    for _ in range(40):
        module = with_state(layouts, _modules={"x": module})
    assert "modules nested too deeply" in refusal(layouts, tmp_path / "a.pkl", {"G_ema": module})


def test_an_endless_setting_is_not_printed(tmp_path, layouts, tensors):
    module = layouts.persistent("Generator", tensors, {"c_dim": laughs()})
    assert "c_dim other, but only 0" in refusal(layouts, tmp_path / "a.pkl", {"G_ema": module})


def test_endless_keys_of_a_module_and_of_a_file_are_not_printed(tmp_path, layouts, tensors):
    module = with_state(layouts, _parameters={"x" * 10_000: laughs()})
    assert "something else where the tensor xxx" in refusal(layouts, tmp_path / "a.pkl", {"G_ema": module})
    value = {f"{i}" * 200: laughs() for i in range(1000)} | {"G_ema": layouts.persistent("Generator", tensors)}
    layouts.write_pickle(tmp_path / "b.pkl", value)
    left_out = import_checkpoint(tmp_path / "b.pkl", tmp_path / "out")["not_imported"]
    assert len(left_out) == 52
    assert left_out[50] == "950 more"
    assert max(map(len, left_out)) <= 80


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_share_their_data_cannot_claim_more_than_the_file_holds(tmp_path, layouts, zipped):
    g, _ = layouts.rosinality_names(*layouts.lively("stylegan2"))
    shared = torch.zeros(12 * 12 * 9)
    G = {name: shared[: x.numel()].view(x.shape) for name, x in g.items() if "kernel" not in name}
    torch.save({"g_ema": G}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)  # shared data is written once
    with pytest.raises(CheckpointError, match=r"a\.pt claims more numbers than it holds"):
        import_checkpoint(tmp_path / "a.pt", tmp_path / "out")


def test_a_module_that_holds_itself_is_refused(tmp_path, layouts):
    modules = OrderedDict()
    modules["x"] = with_state(layouts, _modules=modules)
    # its record is made while its state is still empty
    assert "a module of an unknown form" in refusal(layouts, tmp_path / "a.pkl", {"G_ema": modules["x"]})
