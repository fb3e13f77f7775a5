"""StyleGAN's tensors under the names of the TensorFlow release.

Kernels are stored (height, width, inputs, outputs) and dense weights transposed. The fused enlargement, whose kernel
works as if rotated by 180 degrees, stores it as the plain one does: `stylegan.StyleGANConfig` with variant "released"
rotates it where the release fuses.
"""

from __future__ import annotations

from .interchange import Source, kernels_last, transposed
from .layers import stages


def generator_table(resolution: int, mapping_layers: int) -> dict[str, Source]:
    """Where the tensors of a `StyleGANGenerator` come from; theirs begin with the network's part."""
    table = {"w_avg": Source("dlatent_avg"), "synthesis.first.const.value": Source("synthesis/4x4/Const/const")}
    for i in range(mapping_layers):
        table |= _layer(f"mapping.layers.{i}", f"mapping/Dense{i}", dense=True)
    sides = stages(resolution)
    for k, side in enumerate(sides):
        block = "synthesis.first" if k == 0 else f"synthesis.blocks.{k - 1}"
        names = {"const": "Const", "conv": "Conv"} if k == 0 else {"up": "Conv0_up", "conv": "Conv1"}
        for i, (ours, theirs) in enumerate(names.items()):
            base = f"synthesis/{side}x{side}/{theirs}"
            table |= _epilogue(f"{block}.{ours}_epilogue", base, noise=2 * k + i)
            if ours != "const":
                table[f"{block}.{ours}.weight"] = Source(f"{base}/weight", kernels_last)
        table |= _layer(f"synthesis.to_rgb.{k}", f"synthesis/ToRGB_lod{len(sides) - 1 - k}")
    return table


def discriminator_table(resolution: int) -> dict[str, Source]:
    """Where the tensors of a `StyleGANDiscriminator` come from."""
    table: dict[str, Source] = {}
    sides = stages(resolution)[::-1]
    for k, side in enumerate(sides):
        table |= _layer(f"from_rgb.{k}", f"FromRGB_lod{k}")
        if side > 4:
            table |= _layer(f"blocks.{k}.conv", f"{side}x{side}/Conv0")
            table |= _layer(f"blocks.{k}.down", f"{side}x{side}/Conv1_down")
    table |= _layer("conv", "4x4/Conv")
    return table | _layer("dense", "4x4/Dense0", dense=True) | _layer("out", "4x4/Dense1", dense=True)


def _layer(ours: str, theirs: str, *, dense: bool = False) -> dict[str, Source]:
    form = transposed if dense else kernels_last
    return {f"{ours}.weight": Source(f"{theirs}/weight", form), f"{ours}.bias": Source(f"{theirs}/bias")}


def _epilogue(ours: str, theirs: str, noise: int) -> dict[str, Source]:
    return {
        f"{ours}.noise_weight": Source(f"{theirs}/Noise/weight"),
        f"{ours}.bias": Source(f"{theirs}/bias"),
        f"{ours}.style.weight": Source(f"{theirs}/StyleMod/weight", transposed),
        f"{ours}.style.bias": Source(f"{theirs}/StyleMod/bias"),
        f"{ours}.noise_const": Source(f"synthesis/noise{noise}"),
    }
