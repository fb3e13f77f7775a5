"""Compiled blocks: losses, gradients and states as without, never where a gradient is differentiated, exact resume."""

import json
from dataclasses import replace

import pytest
import torch
import torch._dynamo
import torch._inductor.config
from safetensors.torch import load_file

from histoforensics.generators import Growth, compiling, fit
from histoforensics.generators.compiling import blocks, check_compiler
from histoforensics.generators.phases import Phase
from histoforensics.generators.run import Run
from histoforensics.slides import ConfigError

# torch 2.14 looks whether a tensor has a gradient, and hides the warning of it in a way that does not hold for errors
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
CPU = torch.device("cpu")
# every kind of phase: D and G alone, and each penalty as a phase of its own
LAZY = {
    "stylegan": {"growth": None, "r1_every": 2},
    "stylegan2": {"growth": None, "precision": "fp32"},
    "pathologygan": {"gradient_penalty": 0.0, "r1_gamma": 1.0, "r1_every": 2},
}


def smallest(config):
    """Two side lengths: what compiles takes most of the time."""
    side = 28 if config.family == "pathologygan" else 8
    return replace(config, network=replace(config.network, resolution=side))


class Recorder:
    """A backend that needs no compiler and counts how many graphs it made and how often one was run."""

    def __init__(self):
        self.made = self.runs = 0
        self.inner = "aot_eager"  # with gradients made ahead of time, as the compiler does; "eager" is quicker

    def __call__(self, graph, inputs):
        self.made += 1
        inner = torch._dynamo.lookup_backend(self.inner)(graph, inputs)

        def run(*values):
            self.runs += 1
            return inner(*values)

        return run


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    """In the place of the compiler; PyTorch forgets what it compiled before and after."""
    recorder = Recorder()
    monkeypatch.setattr(compiling, "BACKEND", recorder)
    torch._dynamo.reset()
    yield recorder
    torch._dynamo.reset()


def one_of_each(run, recorder):
    """Every phase once: its loss, its gradients and how many compiled graphs ran, by name."""
    real, found = run._real(run.config.batch), {}
    for number, phase in enumerate(run.phases):
        if not isinstance(phase, Phase):
            continue
        before = recorder.runs
        loss = run._update(phase, number, real)
        network = getattr(run.players, phase.updates)
        gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        found[phase.name] = (loss, gradients, recorder.runs - before)
    return found


def distance(gradients, others):
    """Root mean square of the differences, over that of the others."""
    difference = sum((gradients[name] - other).double().square().sum() for name, other in others.items())
    return float((difference / sum(other.double().square().sum() for other in others.values())).sqrt())


@pytest.mark.slow
@pytest.mark.parametrize("family", LAZY)
def test_compiled_phases_give_the_losses_gradients_and_states_of_eager_ones(family, pictures, tiny_config, recorder):
    config = smallest(tiny_config(family, **LAZY[family]))
    runs = [Run(pictures(config.resolution), replace(config, compile=on), CPU) for on in (False, True)]
    started = {name: buffer.clone() for name, buffer in runs[0].state().tensors.items()}
    eager = one_of_each(runs[0], recorder)
    assert recorder.runs == 1  # of `check_compiler`
    compiled = one_of_each(runs[1], recorder)
    assert eager.keys() == compiled.keys()
    for name, (loss, gradients, _) in eager.items():
        assert compiled[name][0] == pytest.approx(loss, rel=1e-5)
        assert compiled[name][1].keys() == gradients.keys()
        assert distance(compiled[name][1], gradients) < 1e-5, name
    states = [run.state().tensors for run in runs]
    assert states[0].keys() == states[1].keys()
    moving = {name for name in started if name.endswith((".u", "/w_avg")) and "unused" not in name}
    buffers = {name for name in moving if not name.startswith("G_ema")}
    assert buffers
    for name in buffers:
        assert not torch.equal(states[1][name], started[name])  # so that it means something that they agree
    # not the weights: Adam's first step follows the sign of gradients that are nothing but rounding
    for name in buffers:
        torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-4, atol=1e-5)
    assert {phase.name for phase in runs[1].phases if isinstance(phase, Phase) and not phase.is_double} == {"D", "G"}
    for phase in runs[1].phases:
        if isinstance(phase, Phase):
            assert (compiled[phase.name][2] == 0) == phase.is_double, phase.name


def test_a_doubled_gradient_through_compiled_blocks_would_have_been_seen(pictures, tiny_config, recorder):
    run = Run(pictures(8), smallest(tiny_config("stylegan2", **LAZY["stylegan2"], compile=True)), CPU)
    images, before = run._real(4).requires_grad_(), recorder.runs
    with run.players.compiled.entered():
        logits = run.players.D(images).sum()
    assert recorder.runs > before
    with pytest.raises(RuntimeError):  # in one of two places: the graph's own refusal, or on the way to it
        torch.autograd.grad(logits, images, create_graph=True)[0].square().sum().backward()


def test_blocks_are_as_they_were_outside_and_after_an_error(pictures, tiny_config):
    players = Run(pictures(16), tiny_config("stylegan", compile=True), CPU).players
    parts = blocks(players.G, players.D)
    assert len(parts) == 5
    before = [dict(vars(part)) for part in parts]

    def fail():
        with players.compiled.entered():
            assert all("forward" in vars(part) for part in parts)
            assert not any("forward" in vars(part) for part in blocks(players.G_ema, players.D)[:3])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [dict(vars(part)) for part in parts] == before


def test_bf16_gradients_are_as_near_to_those_of_fp32_compiled_as_eager(pictures, tiny_config, recorder):
    exact, eager, compiled = (
        one_of_each(Run(pictures(8), smallest(tiny_config("stylegan2", growth=None, **changes)), CPU), recorder)
        for changes in ({"precision": "fp32"}, {}, {"compile": True})
    )
    assert compiled["G"][2] > 0
    for name in ("G", "D"):
        assert 1e-5 < distance(eager[name][1], exact[name][1]) < 0.1
        assert distance(compiled[name][1], exact[name][1]) < 1.25 * distance(eager[name][1], exact[name][1])


def newest_state(out):
    folder = max((out / "state").iterdir())
    return load_file(folder / "state.safetensors"), json.loads((folder / "state.json").read_text())


# StyleGAN fades while it grows; StyleGAN2's networks are built anew when it grows, here after 16 of 32 images
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("stylegan", {"growth": Growth(initial_px=4, stable_kimg=0.008, fade_kimg=0.016, reread_steps=1)}),
        ("stylegan2", {"micro_batch": None, "path_weight": 0.0}),
        ("pathologygan", {}),
    ],
)
def test_two_compiled_halves_end_with_the_bits_of_one_compiled_run(
    family, changes, tiny_config, pictures, tmp_path, recorder
):
    recorder.inner = "eager"
    config = tiny_config(family, **changes, kimg=0.032, snapshot_kimg=0.1, compile=True)
    data = pictures(config.resolution)
    fit(data, config, tmp_path / "whole")
    fit(data, tiny_config(family, **changes, kimg=0.016, snapshot_kimg=0.1, compile=True), tmp_path / "halves")
    torch._dynamo.reset()  # as another process would
    made = recorder.made
    fit(data, config, tmp_path / "halves")
    assert recorder.made > made + 1  # one is of `check_compiler`
    (tensors, values), (others, other_values) = newest_state(tmp_path / "whole"), newest_state(tmp_path / "halves")
    assert (values["steps"], values["lod"]) == (other_values["steps"], other_values["lod"])
    assert tensors.keys() == others.keys()
    assert not any("_orig_mod" in name for name in tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


@pytest.mark.slow
def test_networks_that_growth_builds_anew_are_compiled_too(tiny_config, pictures, recorder):
    recorder.inner = "eager"
    config = tiny_config("stylegan2", micro_batch=None, path_weight=0.0, r1_gamma=0.0, compile=True)
    run = Run(pictures(16), config, CPU)
    small = run.players
    while run.players is small:
        before = recorder.runs, recorder.made
        run.step()
    assert [part for part, _ in run.players.compiled._calls] == blocks(run.players.G, run.players.D)
    assert len(blocks(run.players.G, run.players.D)) == len(blocks(small.G, small.D)) + 2
    assert recorder.runs > before[0]
    assert recorder.made > before[1]


def test_a_run_may_not_be_resumed_compiled_where_it_was_not(tiny_config, pictures, tmp_path):
    fit(pictures(16), tiny_config("stylegan", kimg=0.008), tmp_path)
    with pytest.raises(ConfigError, match="a run with compile False, but True is asked for"):
        fit(pictures(16), tiny_config("stylegan", compile=True), tmp_path)


def test_without_a_compiler_a_run_ends_before_it_begins(tiny_config, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    with torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),)}):
        with pytest.raises(ConfigError, match=r"^compile: torch\.compile does not work here \(.+\); on cpu it needs a"):
            fit(pictures(16), tiny_config("stylegan", compile=True), tmp_path / "run")
        with pytest.raises(ConfigError, match=r"a C\+\+ compiler such as g\+\+: install it, or train without --comp"):
            check_compiler(CPU)
    assert not (tmp_path / "run").exists()
