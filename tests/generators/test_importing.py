"""Checkpoints of other projects, written here in their layout from our own weights: the same images must come out.

The files are synthetic. Their structure follows the published projects (module names, pickle operations, tensor names,
kernel orders); stand-ins for the projects' classes are registered while a file is written and gone when it is read.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from histoforensics.generators import FAMILIES
from histoforensics.generators.checkpoints import load_discriminator, load_generator
from histoforensics.generators.exporting import export_checkpoint
from histoforensics.generators.importing import import_checkpoint
from histoforensics.slides import CheckpointError, ConfigError

ORACLE = (
    Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[2] / "../shared/data"))
    / "../oracles/stylegan2_res32.safetensors"
)
SIDES = (4, 8, 16)
SMALL = {"resolution": 16, "z_dim": 6, "w_dim": 8, "fmap_base": 56, "fmap_max": 12, "mapping_layers": 2}
FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
Tensors = dict[str, Tensor]


# --- the projects' layouts, as their files show them ---


class Stand:
    """Stands for a class or function of another project while a pickle is written."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def __reduce__(self) -> str:
        return self.__name__

    def __call__(self, *_: Any) -> None:
        raise AssertionError("something of the file was run")


class Reduced:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class EasyDict(dict):
    pass


class Network:
    pass


def write_pickle(path: Path, value: Any, protocol: int = 4) -> Path:
    """Pickle ``value``; the names of the other projects can be imported only meanwhile."""
    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    Network.__module__, Network.__qualname__ = "dnnlib.tflib.network", "Network"
    stands = {"dnnlib.util": EasyDict, "dnnlib.tflib.network": Network, "torch_utils.persistence": PERSISTENT}
    names = {part for name in stands for part in (name, name.rpartition(".")[0], name.split(".")[0])}
    modules = {name: types.ModuleType(name) for name in names}
    for name, stand in stands.items():
        setattr(modules[name], stand.__name__, stand)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.__setitem__(name, module)
    return path


PERSISTENT = Stand("torch_utils.persistence", "_reconstruct_persistent_obj")


def persistent(class_name: str, tensors: Tensors, settings: dict[str, Any] | None = None) -> Reduced:
    """A module as stylegan2-ada-pytorch pickles it: its source, and its state with modules inside."""
    state: dict[str, Any] = {
        "training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(),
        "_non_persistent_buffers_set": set(), "_backward_hooks": OrderedDict(), "_is_full_backward_hook": None,
        "act_gain": np.sqrt(2), "block_resolutions": [4, 8], "_init_args": (),
        "_init_kwargs": EasyDict(settings or {}),
    }  # fmt: skip
    inner: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = tensor
        elif head in ("noise_const", "resample_filter", "w_avg"):
            state["_buffers"][head] = tensor
        else:
            state["_parameters"][head] = nn.Parameter(tensor, requires_grad=False)
    for name, content in inner.items():
        state["_modules"][name] = persistent("Layer", content)
    source = "raise SystemExit('the source in the file was run')"
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}
    return Reduced(PERSISTENT, meta)


def ada_pickle(path: Path, G: Tensors, D: Tensors | None, protocol: int = 4, **changes: Any) -> Path:
    settings = {
        "z_dim": 6, "c_dim": 0, "w_dim": 8, "img_resolution": 16, "img_channels": 3,
        "mapping_kwargs": EasyDict(num_layers=2), "synthesis_kwargs": EasyDict(channel_base=112, conv_clamp=256),
    }  # fmt: skip
    value = {"training_set_kwargs": EasyDict(path="x.zip"), "G": persistent("Generator", G, settings | changes)}
    value |= {} if D is None else {"D": persistent("Discriminator", D, {"c_dim": 0, "img_channels": 3})}
    value |= {"G_ema": persistent("Generator", G, settings | changes), "augment_pipe": None}
    return write_pickle(path, value, protocol)


def ada_names(G: nn.Module, D: nn.Module) -> tuple[Tensors, Tensors]:
    g, d = G.state_dict(), D.state_dict()
    out = {"mapping.w_avg": g["w_avg"], "synthesis.b4.const": g["synthesis.const.value"]}
    for i in range(2):
        out |= {f"mapping.fc{i}.{leaf}": g[f"mapping.layers.{i}.{leaf}"] for leaf in ("weight", "bias")}
    for k, side in enumerate(SIDES):
        for ours, theirs in (("up", "conv0"), ("conv", "conv1"), ("to_rgb", "torgb")):
            for leaf in (
                "conv.weight",
                "conv.affine.weight",
                "conv.affine.bias",
                "bias",
                "noise_strength",
                "noise_const",
            ):
                name = f"synthesis.blocks.{k}.{ours}.{leaf}"
                if name in g:
                    out[f"synthesis.b{side}.{theirs}.{leaf.removeprefix('conv.')}"] = g[name]
        out[f"synthesis.b{side}.resample_filter"] = FIR
    return out, ada_critic(d)


def ada_critic(d: Tensors) -> Tensors:
    names = {"from_rgb.conv": "b16.fromrgb", "conv.conv": "b4.conv", "dense.dense": "b4.fc", "out": "b4.out"}
    for k, side in enumerate((16, 8)):
        names |= {f"blocks.{k}.conv.conv": f"b{side}.conv0", f"blocks.{k}.down.conv": f"b{side}.conv1"}
        names[f"blocks.{k}.skip"] = f"b{side}.skip"
    return {f"{names[ours]}.{leaf}": value for ours, _, leaf, value in ((*k.rpartition("."), v) for k, v in d.items())}


def rosinality_names(G: nn.Module, D: nn.Module) -> tuple[Tensors, Tensors]:
    g, d = G.state_dict(), D.state_dict()
    out = {"input.input": g["synthesis.const.value"]}
    for i in range(2):
        out |= {f"style.{i + 1}.{leaf}": g[f"mapping.layers.{i}.{leaf}"] for leaf in ("weight", "bias")}
    layers = [("conv1", "blocks.0.conv"), ("convs.0", "blocks.1.up"), ("convs.1", "blocks.1.conv")]
    layers += [("convs.2", "blocks.2.up"), ("convs.3", "blocks.2.conv")]
    for i, (theirs, ours) in enumerate(layers):
        base = f"synthesis.{ours}"
        out[f"{theirs}.conv.weight"] = g[f"{base}.conv.weight"][None]
        out |= {f"{theirs}.conv.modulation.{leaf}": g[f"{base}.conv.affine.{leaf}"] for leaf in ("weight", "bias")}
        out |= {
            f"{theirs}.noise.weight": g[f"{base}.noise_strength"][None],
            f"{theirs}.activate.bias": g[f"{base}.bias"],
        }
        out[f"noises.noise_{i}"] = g[f"{base}.noise_const"][None, None]
        if "up" in ours:
            out[f"{theirs}.conv.blur.kernel"] = 4 * FIR
    for k, theirs in enumerate(("to_rgb1", "to_rgbs.0", "to_rgbs.1")):
        base = f"synthesis.blocks.{k}.to_rgb"
        out |= {
            f"{theirs}.bias": g[f"{base}.bias"].reshape(1, 3, 1, 1),
            f"{theirs}.conv.weight": g[f"{base}.conv.weight"][None],
        }
        out |= {f"{theirs}.conv.modulation.{leaf}": g[f"{base}.conv.affine.{leaf}"] for leaf in ("weight", "bias")}
    critic = {"convs.0.0.weight": d["from_rgb.conv.weight"], "convs.0.1.bias": d["from_rgb.conv.bias"]}
    for k in range(2):
        critic |= {
            f"convs.{k + 1}.conv1.0.weight": d[f"blocks.{k}.conv.conv.weight"],
            f"convs.{k + 1}.conv1.1.bias": d[f"blocks.{k}.conv.conv.bias"],
            f"convs.{k + 1}.conv2.0.kernel": FIR,
            f"convs.{k + 1}.conv2.1.weight": d[f"blocks.{k}.down.conv.weight"],
            f"convs.{k + 1}.conv2.2.bias": d[f"blocks.{k}.down.conv.bias"],
            f"convs.{k + 1}.skip.0.kernel": FIR,
            f"convs.{k + 1}.skip.1.weight": d[f"blocks.{k}.skip.weight"],
        }
    critic |= {"final_conv.0.weight": d["conv.conv.weight"], "final_conv.1.bias": d["conv.conv.bias"]}
    critic |= {f"final_linear.0.{leaf}": d[f"dense.dense.{leaf}"] for leaf in ("weight", "bias")}
    return out, critic | {f"final_linear.1.{leaf}": d[f"out.{leaf}"] for leaf in ("weight", "bias")}


def hwio(x: Tensor) -> Tensor:
    return x.permute(2, 3, 1, 0)


def tf_network(name: str, tensors: Tensors, settings: dict[str, Any] | None = None, **parts: Network) -> Network:
    network = Network()
    arrays = [(key, x.numpy()[()] if x.ndim == 0 else np.ascontiguousarray(x.numpy())) for key, x in tensors.items()]
    network.__dict__ = {
        "version": 4, "name": name, "static_kwargs": EasyDict(settings or {}), "components": parts,
        "build_module_src": "raise SystemExit('the source in the file was run')", "build_func_name": name,
        "variables": arrays,
    }  # fmt: skip
    return network


def tf_stylegan2(G: nn.Module, D: nn.Module, **settings: Any) -> tuple[Network, Network, Network]:
    g, d = G.state_dict(), D.state_dict()
    mapping = {f"Dense{i}/weight": g[f"mapping.layers.{i}.weight"].T for i in range(2)}
    mapping |= {f"Dense{i}/bias": g[f"mapping.layers.{i}.bias"] for i in range(2)}
    synthesis = {"4x4/Const/const": g["synthesis.const.value"][None]}
    for k, side in enumerate(SIDES):
        names = {"up": "Conv0_up", "conv": "Conv1" if k else "Conv", "to_rgb": "ToRGB"}
        for part, theirs in names.items():
            base, name = f"synthesis.blocks.{k}.{part}", f"{side}x{side}/{theirs}"
            if f"{base}.bias" not in g:
                continue
            weight = g[f"{base}.conv.weight"]
            synthesis[f"{name}/weight"] = hwio(weight.flip(2, 3) if part == "up" else weight)
            synthesis[f"{name}/mod_weight"] = g[f"{base}.conv.affine.weight"].T
            synthesis[f"{name}/mod_bias"] = g[f"{base}.conv.affine.bias"] - 1
            synthesis[f"{name}/bias"] = g[f"{base}.bias"]
            if part != "to_rgb":
                synthesis[f"{name}/noise_strength"] = g[f"{base}.noise_strength"]
                number = {"blocks.0.conv": 0, "blocks.1.up": 1, "blocks.1.conv": 2, "blocks.2.up": 3}
                i = number.get(f"blocks.{k}.{part}", 4)
                synthesis[f"noise{i}"] = g[f"{base}.noise_const"][None, None]
    critic = {"16x16/FromRGB/weight": hwio(d["from_rgb.conv.weight"]), "16x16/FromRGB/bias": d["from_rgb.conv.bias"]}
    for k, side in enumerate((16, 8)):
        for ours, theirs in (("conv.conv", "Conv0"), ("down.conv", "Conv1_down"), ("skip", "Skip")):
            critic[f"{side}x{side}/{theirs}/weight"] = hwio(d[f"blocks.{k}.{ours}.weight"])
            if ours != "skip":
                critic[f"{side}x{side}/{theirs}/bias"] = d[f"blocks.{k}.{ours}.bias"]
    critic |= {"4x4/Conv/weight": hwio(d["conv.conv.weight"]), "4x4/Conv/bias": d["conv.conv.bias"]}
    critic |= {"4x4/Dense0/weight": d["dense.dense.weight"].T, "4x4/Dense0/bias": d["dense.dense.bias"]}
    critic |= {"Output/weight": d["out.weight"].T, "Output/bias": d["out.bias"]}
    given = {"num_channels": 3, "label_size": 0, "resolution": 16, "fmap_base": 56} | settings
    parts = {"mapping": tf_network("G_mapping", mapping), "synthesis": tf_network("G_synthesis", synthesis)}
    Gs = tf_network("Gs", {"dlatent_avg": g["w_avg"]}, given, **parts)
    return tf_network("G", {"lod": torch.tensor(0.0)}), tf_network("D", critic, given | {"architecture": "resnet"}), Gs


def tf_stylegan(G: nn.Module, D: nn.Module, **settings: Any) -> tuple[Network, Network, Network]:
    g, d, blocks = G.state_dict(), D.state_dict(), len(D.blocks)
    mapping = {f"Dense{i}/weight": g[f"mapping.layers.{i}.weight"].T for i in range(2)}
    mapping |= {f"Dense{i}/bias": g[f"mapping.layers.{i}.bias"] for i in range(2)}
    synthesis = {"lod": torch.tensor(0.0), "4x4/Const/const": g["synthesis.first.const.value"][None]}
    layers = [("first.const", "4x4/Const"), ("first.conv", "4x4/Conv")]
    for k in range(blocks):
        side = 8 << k
        layers += [(f"blocks.{k}.up", f"{side}x{side}/Conv0_up"), (f"blocks.{k}.conv", f"{side}x{side}/Conv1")]
    for i, (ours, theirs) in enumerate(layers):
        base = f"synthesis.{ours}_epilogue"
        synthesis |= {f"{theirs}/Noise/weight": g[f"{base}.noise_weight"], f"{theirs}/bias": g[f"{base}.bias"]}
        synthesis |= {
            f"{theirs}/StyleMod/weight": g[f"{base}.style.weight"].T,
            f"{theirs}/StyleMod/bias": g[f"{base}.style.bias"],
        }
        synthesis[f"noise{i}"] = g[f"{base}.noise_const"][None, None]
        if ours != "first.const":
            synthesis[f"{theirs}/weight"] = hwio(g[f"synthesis.{ours}.weight"])
    critic = {"lod": torch.tensor(0.0)}
    for k in range(blocks + 1):
        synthesis[f"ToRGB_lod{k}/weight"] = hwio(g[f"synthesis.to_rgb.{blocks - k}.weight"])
        synthesis[f"ToRGB_lod{k}/bias"] = g[f"synthesis.to_rgb.{blocks - k}.bias"]
        critic[f"FromRGB_lod{k}/weight"], critic[f"FromRGB_lod{k}/bias"] = (
            hwio(d[f"from_rgb.{k}.weight"]),
            d[f"from_rgb.{k}.bias"],
        )
    for k in range(blocks):
        side = 4 << (blocks - k)
        for ours, theirs in (("conv", "Conv0"), ("down", "Conv1_down")):
            critic[f"{side}x{side}/{theirs}/weight"] = hwio(d[f"blocks.{k}.{ours}.weight"])
            critic[f"{side}x{side}/{theirs}/bias"] = d[f"blocks.{k}.{ours}.bias"]
    critic |= {"4x4/Conv/weight": hwio(d["conv.weight"]), "4x4/Conv/bias": d["conv.bias"]}
    for ours, theirs in (("dense", "Dense0"), ("out", "Dense1")):
        critic |= {f"4x4/{theirs}/weight": d[f"{ours}.weight"].T, f"4x4/{theirs}/bias": d[f"{ours}.bias"]}
    given = {"num_channels": 3, "label_size": 0, "structure": "linear"} | settings
    parts = {"mapping": tf_network("G_mapping", mapping), "synthesis": tf_network("G_synthesis", synthesis)}
    Gs = tf_network("Gs", {"dlatent_avg": g["w_avg"]}, given, **parts)
    return tf_network("G", {}), tf_network("D", critic, given), Gs


# --- our networks ---


def lively(family: str, **changes: Any) -> tuple[nn.Module, nn.Module]:
    """Networks whose biases, noise strengths and means are not zero: else an exchange of two would not show."""
    config = FAMILIES[family].config(**(SMALL | changes))
    networks = FAMILIES[family].build(config, seed=3)
    rng = torch.Generator().manual_seed(4)
    for network in networks:
        for name, value in network.state_dict().items():
            if "weight" not in name or "noise_weight" in name:
                value += (30.0 if "mapping" in name else 0.5) * torch.randn(value.shape, generator=rng)
        network.eval().requires_grad_(False)
    return networks


def latents(n: int = 4) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(5))


def assert_same(folder: Path, G: nn.Module, D: nn.Module | None, psi: float = 0.7) -> None:
    """The imported networks give the same images and logits, to 1e-5 of the largest."""
    loaded = load_generator(folder)
    z = latents()
    for noise in ("const", "none"):
        images, wanted = loaded.module(z, psi=psi, noise=noise), G(z, psi=psi, noise=noise)
        assert (images - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    critic = load_discriminator(folder, loaded.config)
    assert (critic is None) == (D is None)
    if critic is not None and D is not None:
        assert (critic(wanted) - D(wanted)).abs().max() <= 1e-5 * D(wanted).abs().max()


# --- tests ---


@pytest.fixture(name="pair")
def fixture_pair() -> tuple[nn.Module, nn.Module]:
    return lively("stylegan2")


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_snapshot_of_stylegan2_ada_pytorch_gives_the_same_images(tmp_path, pair, protocol):
    path = ada_pickle(tmp_path / "net.pkl", *ada_names(*pair), protocol)
    imported = import_checkpoint(path, tmp_path / "out")
    assert imported["kind"] == "stylegan2-ada-pytorch"
    assert imported["not_imported"] == ["training_set_kwargs", "G", "augment_pipe"]
    assert imported["not_reproduced"] == ["the clamp of activations at 256: here nothing is clamped"]
    assert_same(tmp_path / "out", *pair)


def test_the_settings_of_stylegan3_code_are_read_too(tmp_path, pair):
    settings = {"synthesis_kwargs": EasyDict(), "channel_base": 112, "num_fp16_res": 4, "conv_clamp": None}
    path = ada_pickle(tmp_path / "net.pkl", *ada_names(*pair), **settings)
    imported = import_checkpoint(path, tmp_path / "out")
    assert imported["not_reproduced"] == ["half precision at the 4 largest sizes: here all is single precision"]
    assert_same(tmp_path / "out", *pair)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_file_of_rosinality_gives_the_same_images_and_gets_a_mean_style(tmp_path, pair, zipped):
    G, D = pair
    g, d = rosinality_names(G, D)
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    value = {"g": g, "d": d, "g_ema": g, "g_optim": optimizer.state_dict(), "args": argparse.Namespace(size=16)}
    torch.save(value, tmp_path / "100000.pt", _use_new_zipfile_serialization=zipped)
    imported = import_checkpoint(tmp_path / "100000.pt", tmp_path / "out")
    assert imported["w_avg"] == "mean of 10000 latents, seed 0"
    assert imported["not_imported"] == ["g", "g_optim", "args"]
    assert_same(tmp_path / "out", G, D, psi=1.0)
    many = torch.randn(50_000, 6, generator=torch.Generator().manual_seed(9))
    w = G.mapping(many)
    error = (load_generator(tmp_path / "out").module.w_avg - w.mean(0)).abs()
    assert (error < 5 * w.std(0) / 10_000**0.5).all()


def test_a_converted_file_of_rosinality_brings_its_mean_style(tmp_path, pair):
    G, D = pair
    g, _ = rosinality_names(G, D)
    torch.save({"g_ema": g, "latent_avg": G.w_avg}, tmp_path / "ffhq.pt")
    imported = import_checkpoint(tmp_path / "ffhq.pt", tmp_path / "out")
    assert imported["w_avg"] == "from the file"
    assert imported["not_imported"] == ["the discriminator: the file has none"]
    assert_same(tmp_path / "out", G, None)


def test_a_tensorflow_stylegan2_gives_the_same_images(tmp_path, pair):
    path = write_pickle(tmp_path / "net.pkl", tf_stylegan2(*pair))
    imported = import_checkpoint(path, tmp_path / "out")
    assert imported["kind"] == "tensorflow stylegan2"
    assert_same(tmp_path / "out", *pair)


@pytest.mark.parametrize(("fused", "variant"), [("auto", "released"), (False, "intended")])
def test_a_tensorflow_stylegan_gives_the_same_images_as_it_was_fused(tmp_path, fused, variant):
    """At 128 px the release fuses by itself, and only then rotates the kernel."""
    G, D = lively("stylegan", resolution=128, fmap_base=128, fmap_max=4, variant=variant)
    other, _ = lively(
        "stylegan", resolution=128, fmap_base=128, fmap_max=4, variant="released" if fused is False else "intended"
    )
    assert (G(latents(), noise="none") - other(latents(), noise="none")).abs().max() > 1e-2
    path = write_pickle(tmp_path / "net.pkl", tf_stylegan(G, D, fused_scale=fused))
    assert import_checkpoint(path, tmp_path / "out")["kind"] == "tensorflow stylegan"
    assert load_generator(tmp_path / "out").config.network.variant == variant
    assert_same(tmp_path / "out", G, D)


@pytest.mark.skipif(not ORACLE.is_file(), reason="the reference implementation's output is not at hand")
def test_the_published_implementations_own_weights_give_its_own_images(tmp_path):
    o = load_file(ORACLE)
    nets = [{k[2:]: v for k, v in o.items() if k.startswith(part)} for part in ("G.", "D.")]
    path = ada_pickle(tmp_path / "oracle.pkl", *nets)
    import_checkpoint(path, tmp_path / "out")
    loaded = load_generator(tmp_path / "out")
    D = load_discriminator(tmp_path / "out", loaded.config)
    G, z, images = loaded.module, o["in.z"], o["out.image_const_noise"]
    pairs = [
        (G.mapping(z), o["out.w"]),
        (G(z, noise="const"), images),
        (G(z, noise="none"), o["out.image_no_noise"]),
        (G(z, psi=0.7, noise="const"), o["out.image_psi07_const_noise"]),
        (D(images), o["out.d_logits"][:, 0]),
    ]
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    export_checkpoint(tmp_path / "out", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    theirs = {f"{'G_ema' if k[0] == 'G' else 'D'}{k[1:]}": v for k, v in o.items() if k[:2] in ("G.", "D.")}
    assert back.keys() == theirs.keys()
    assert all(torch.allclose(back[k], theirs[k], rtol=0, atol=1e-7) for k in theirs)


def test_widths_that_no_preset_has_are_found(tmp_path):
    G, D = lively("stylegan2", fmap_base=45, fmap_max=11)  # 11, 11, 5 channels
    import_checkpoint(ada_pickle(tmp_path / "net.pkl", *ada_names(G, D)), tmp_path / "out")
    assert_same(tmp_path / "out", G, D)


def test_the_card_says_where_the_weights_come_from(tmp_path, pair):
    path = ada_pickle(tmp_path / "net.pkl", *ada_names(*pair))
    import_checkpoint(path, tmp_path / "out")
    card = json.loads((tmp_path / "out/config.json").read_text())
    assert card["images"] is None
    assert card["imported"]["file"] == "net.pkl"
    assert len(card["imported"]["sha256"]) == 64
    assert "non-commercial" in card["imported"]["licence"]
    assert str(tmp_path) not in (tmp_path / "out/config.json").read_text()


def test_a_discriminator_that_compares_other_groups_is_left_out(tmp_path, pair):
    G, D = ada_names(*pair)
    value = {
        "G_ema": persistent("Generator", G),
        "D": persistent("Discriminator", D, {"epilogue_kwargs": EasyDict(mbstd_group_size=8)}),
    }
    imported = import_checkpoint(write_pickle(tmp_path / "net.pkl", value), tmp_path / "out")
    assert imported["not_imported"] == [
        "the discriminator: it was made with mbstd_group_size 8, and only 4 can be reproduced"
    ]
    assert_same(tmp_path / "out", pair[0], None)


def test_a_folder_that_is_not_empty_is_kept_unless_told_otherwise(tmp_path, pair):
    path = ada_pickle(tmp_path / "net.pkl", *ada_names(*pair))
    import_checkpoint(path, tmp_path / "out")
    with pytest.raises(ConfigError, match="not empty"):
        import_checkpoint(path, tmp_path / "out")
    import_checkpoint(path, tmp_path / "out", overwrite=True)


class Refusals:
    """Files that are well made and still not ours to read: (changes, the sentence)."""

    SETTINGS: ClassVar = [
        ({"c_dim": 10}, r"net\.pkl holds a generator with c_dim 10, but only 0 can be reproduced\."),
        ({"img_channels": 1}, r"img_channels 1, but only 3"),
        ({"synthesis_kwargs": EasyDict(architecture="orig")}, "architecture orig, but only skip"),
        ({"mapping_kwargs": EasyDict(lr_multiplier=0.1)}, r"lr_multiplier 0\.1, but only 0\.01"),
        ({"synthesis_kwargs": EasyDict(resample_filter=[1, 2, 1])}, r"resample_filter other, but only \[1, 3, 3, 1\]"),
    ]


@pytest.mark.parametrize(("settings", "message"), Refusals.SETTINGS)
def test_a_generator_that_cannot_be_reproduced_is_refused(tmp_path, pair, settings, message):
    path = ada_pickle(tmp_path / "net.pkl", *ada_names(*pair), **settings)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("synthesis.b8.conv0.weight", None, "lacks the tensor synthesis.b8.conv0.weight"),
        ("synthesis.b8.conv0.weight", torch.zeros(5), "has a tensor synthesis.b8.conv0.weight of 5 numbers"),
        ("synthesis.b8.conv0.weight", torch.zeros(12, 12, 9, 1), "of shape .12, 12, 9, 1., which does not fit"),
        ("synthesis.b8.conv1.bias", torch.full((12,), torch.nan), "with numbers that are not finite"),
        ("synthesis.b8.conv1.bias", torch.zeros(12, dtype=torch.int64), "of whole numbers"),
        ("synthesis.b4.resample_filter", torch.eye(4), "resamples with another filter"),
        ("mapping.embed.weight", torch.zeros(8, 8), "has a tensor mapping.embed.weight, which no network"),
        ("synthesis.b16.conv1.bias", torch.zeros(13), "widths .12, 12, 13., which follow no rule"),
        ("mapping.fc0.bias", None, "lacks the tensors of a generator"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, pair, name, value, message):
    G, D = ada_names(*pair)
    G = {key: tensor for key, tensor in G.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(ada_pickle(tmp_path / "net.pkl", G, D), tmp_path / "out")


@pytest.mark.parametrize("value", [[1, 2], {"weights": 1}, {"g_ema": 5}, {"G_ema": None}, "x", (1, 2, 3)])
def test_a_pickle_of_something_else_is_said_to_be_unknown(tmp_path, value):
    with pytest.raises(CheckpointError, match=r"^net\.pkl is no StyleGAN checkpoint that is known"):
        import_checkpoint(write_pickle(tmp_path / "net.pkl", value), tmp_path / "out")


def test_wrong_types_where_tensors_are_expected_are_refused(tmp_path, pair):
    G, _ = rosinality_names(*pair)
    torch.save({"g_ema": G | {"conv1.conv.weight": "text"}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"something else where the tensor conv1\.conv\.weight should be"):
        import_checkpoint(tmp_path / "a.pt", tmp_path / "out")
    networks = tf_stylegan2(*pair)
    networks[2].__dict__["variables"].append(("dlatent_avg", "text"))
    with pytest.raises(CheckpointError, match="something else where a network's variable should be"):
        import_checkpoint(write_pickle(tmp_path / "b.pkl", networks), tmp_path / "out")


def test_only_stylegan2_goes_back(tmp_path):
    G, D = lively("stylegan")
    import_checkpoint(write_pickle(tmp_path / "net.pkl", tf_stylegan(G, D)), tmp_path / "out")
    with pytest.raises(CheckpointError, match="out is a stylegan; stylegan2-ada-pytorch has names for stylegan2 alone"):
        export_checkpoint(tmp_path / "out", tmp_path / "back.safetensors")


# --- fuzzing ---


@pytest.fixture(name="valid", scope="module")
def fixture_valid(tmp_path_factory) -> dict[str, bytes]:
    """One valid file of each container, as small as networks get."""
    folder = tmp_path_factory.mktemp("valid")
    G, D = lively("stylegan2", fmap_base=8, fmap_max=2, z_dim=2, w_dim=2)
    ada_pickle(folder / "a.pkl", *ada_names(G, D))
    write_pickle(folder / "b.pkl", tf_stylegan2(G, D))
    g, d = rosinality_names(G, D)
    for name, zipped in (("c.pt", True), ("d.pt", False)):
        torch.save(
            {"g_ema": g, "d": d, "args": argparse.Namespace(x=1)}, folder / name, _use_new_zipfile_serialization=zipped
        )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.pkl", "b.pkl", "c.pt", "d.pt"])
def test_damaged_files_are_refused_in_one_sentence_and_nothing_else_happens(tmp_path, valid, name):
    """Bytes changed, cut out, doubled, exchanged: what still reads is a checkpoint, all else a CheckpointError."""
    rng, whole, sentences = np.random.default_rng(0), valid[name], list[str]()
    for _ in range(75):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
            match rng.integers(5):
                case 0:
                    data[at] = rng.integers(256)
                case 1:
                    del data[at : at + length]
                case 2:
                    data[at:at] = data[at : at + length]
                case 3:
                    data[at : at + length] = rng.bytes(length)
                case _:
                    data = data[: at + 1]
        (tmp_path / name).write_bytes(data)
        try:
            import_checkpoint(tmp_path / name, tmp_path / "out", overwrite=True)
        except CheckpointError as err:
            sentences.append(str(err))
    assert len(sentences) > 20
    assert [one for one in sentences if not re.fullmatch(rf"{name} [^\n]{{5,250}}\.", one)] == []
