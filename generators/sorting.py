"""What a checkpoint of another project holds: whose it is, its networks' tensors, and how the networks were made.

What does not show in the tensors and our networks cannot do (a conditional network, another activation) is found here
by the settings that come with the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from . import interchange, stylegan_names
from .interchange import Source
from .records import Array, PersistentModule, StoredTensor, TFNetwork
from .unpickle import Refused, shown

Kind = Literal["stylegan2-ada-pytorch", "rosinality", "tensorflow stylegan", "tensorflow stylegan2"]
SCHEMES: Mapping[Kind, interchange.Scheme] = {
    "stylegan2-ada-pytorch": "stylegan2-ada-pytorch",
    "rosinality": "rosinality",
    "tensorflow stylegan2": "tensorflow",
}
Stored = StoredTensor | Array
MOST_NAMES = 50  # of parts that are left out, in the card


# What a network was made with, where it does not show in its tensors; a setting that is not given has the first value.
GENERATOR_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "c_dim": (0,), "label_size": (0,), "img_channels": (3,), "num_channels": (3,), "architecture": ("skip",),
    "activation": ("lrelu",), "nonlinearity": ("lrelu",), "mapping_nonlinearity": ("lrelu",), "lr_multiplier": (0.01,),
    "mapping_lrmul": (0.01,), "resample_filter": ([1, 3, 3, 1],), "resample_kernel": ([1, 3, 3, 1],),
    "blur_filter": ([1, 2, 1],), "use_noise": (True,), "use_wscale": (True,), "mapping_use_wscale": (True,),
    "use_pixel_norm": (False,), "use_instance_norm": (True,), "use_styles": (True,), "const_input_layer": (True,),
    "normalize_latents": (True,), "fused_scale": ("auto", False),
}  # fmt: skip
DISCRIMINATOR_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "c_dim": (0,), "label_size": (0,), "img_channels": (3,), "num_channels": (3,), "architecture": ("resnet",),
    "activation": ("lrelu",), "nonlinearity": ("lrelu",), "resample_filter": ([1, 3, 3, 1],),
    "resample_kernel": ([1, 3, 3, 1],), "blur_filter": ([1, 2, 1],), "use_wscale": (True,), "mbstd_group_size": (4,),
    "mbstd_num_channels": (1,), "mbstd_num_features": (1,),
}  # fmt: skip


@dataclass
class Foreign:
    """What a file of another project holds, sorted."""

    kind: Kind
    generator: dict[str, Stored]
    discriminator: dict[str, Stored] | None
    generator_settings: Mapping[str, Any] = field(default_factory=dict)
    discriminator_settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  # parts of the file that are not imported, in words

    @property
    def family(self) -> str:
        """The family of its networks."""
        return "stylegan" if self.kind == "tensorflow stylegan" else "stylegan2"

    def generator_table(self, resolution: int, mapping_layers: int) -> dict[str, Source]:
        """Where our generator's tensors come from."""
        if self.family == "stylegan":
            return stylegan_names.generator_table(resolution, mapping_layers)
        return interchange.generator_table(SCHEMES[self.kind], resolution, mapping_layers)

    def discriminator_table(self, resolution: int) -> dict[str, Source]:
        """Where our discriminator's tensors come from."""
        if self.family == "stylegan":
            return stylegan_names.discriminator_table(resolution)
        return interchange.discriminator_table(SCHEMES[self.kind], resolution)


def sort_out(value: Any) -> Foreign:
    """Tell which project a file is from, and pick the generator to sample and its discriminator.

    Raises:
        Refused: It is from none that is known.
    """
    match value:
        case {"G_ema": PersistentModule() as G, **rest}:
            D = rest.get("D")
            critic = D if isinstance(D, PersistentModule) else None
            return Foreign(
                "stylegan2-ada-pytorch", _widened(G.tensors()), None if critic is None else _widened(critic.tensors()),
                G.settings, {} if critic is None else critic.settings, _others(rest, {"D"} if critic else set()),
            )  # fmt: skip
        case {"g_ema": dict() as G, **rest}:
            D = rest.get("d")
            tensors = _state_dict(G) | _state_dict({k: rest[k] for k in ("latent_avg",) if k in rest})
            critic_tensors = _state_dict(D) if isinstance(D, dict) else None
            used = {"latent_avg"} | ({"d"} if critic_tensors is not None else set())
            return Foreign("rosinality", tensors, critic_tensors, left_out=_others(rest, used))
        case (TFNetwork(), TFNetwork() as D, TFNetwork() as Gs):
            return Foreign(
                _tensorflow_kind(Gs), dict(Gs.tensors()), dict(D.tensors()), Gs.settings, D.settings,
                ["G, the generator before averaging"],
            )  # fmt: skip
    raise Refused(
        "is no StyleGAN checkpoint that is known: the .pkl of stylegan2-ada-pytorch and of StyleGAN3 hold G_ema, "
        "rosinality's .pt g_ema, the TensorFlow .pkl three networks"
    )


def mismatches(given: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> list[tuple[str, str, str]]:
    """(name, value, what is allowed) of each setting that is not, in words."""
    found = []
    for name, choices in allowed.items():
        value = given.get(name, choices[0])
        value = list(value) if isinstance(value, tuple) else value
        value = value.tensor().tolist() if isinstance(value, Array) and value.numel <= 64 else value
        if not any(type(value) in (type(choice), int, float) and value == choice for choice in choices):
            # nothing else of the file's is printed: a structure could be endless in print
            word = str(value) if isinstance(value, int | float) else shown(value) if isinstance(value, str) else "other"
            found.append((name, word, " or ".join(map(str, choices))))
    return found


def not_reproduced(settings: Mapping[str, Any]) -> list[str]:
    """What the network does and ours does not, though both are taken for the same."""
    notes = []
    if isinstance(settings.get("conv_clamp"), int | float):
        notes.append(f"the clamp of activations at {settings['conv_clamp']}: here nothing is clamped")
    if isinstance(settings.get("num_fp16_res"), int) and settings["num_fp16_res"] > 0:
        notes.append(f"half precision at the {settings['num_fp16_res']} largest sizes: here all is single precision")
    return notes


def _tensorflow_kind(Gs: TFNetwork) -> Kind:
    names = Gs.tensors()
    if "synthesis/4x4/Conv/StyleMod/weight" in names:
        return "tensorflow stylegan"
    if "synthesis/4x4/Conv/mod_weight" in names and "synthesis/4x4/ToRGB/weight" in names:
        return "tensorflow stylegan2"
    raise Refused("holds TensorFlow networks that are neither StyleGAN nor StyleGAN2 in config-e or config-f")


def _state_dict(value: Mapping[Any, Any]) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise Refused(f"holds something else where the tensor {shown(str(name))} should be")
        found[name] = tensor
    return found


def _others(rest: Mapping[Any, Any], used: set[str]) -> list[str]:
    names = [shown(str(name)) for name in rest if name not in used]
    return names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]


def _widened(tensors: dict[str, StoredTensor]) -> dict[str, Stored]:
    return dict(tensors)
