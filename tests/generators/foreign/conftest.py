"""Files of other projects, synthetic: their layout (module names, pickle operations, tensor names, kernel orders) and
our weights. Stand-ins for the projects' classes are registered while a file is written and gone when it is read.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from histoforensics.generators import FAMILIES

SIDES = (4, 8, 16)
SMALL = {"resolution": 16, "z_dim": 6, "w_dim": 8, "fmap_base": 56, "fmap_max": 12, "mapping_layers": 2}
FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
Tensors = dict[str, Tensor]


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


@pytest.fixture(scope="session")
def layouts() -> types.SimpleNamespace:
    """The functions that write files in the layouts of the other projects, and `lively` networks to put into them."""
    functions = (ada_pickle, ada_names, persistent, rosinality_names, tf_stylegan, tf_stylegan2, write_pickle, lively)
    return types.SimpleNamespace(**{function.__name__: function for function in functions})
