"""Checkpoints of other projects, written in their layout from our own weights: the same images must come out."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from histoforensics.generators.checkpoints import load_discriminator, load_generator
from histoforensics.generators.exporting import export_checkpoint
from histoforensics.generators.importing import import_checkpoint
from histoforensics.slides import CheckpointError, ConfigError

ORACLE = (
    Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[3] / "../shared/data"))
    / "../oracles/stylegan2_res32.safetensors"
)


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


@pytest.fixture(name="pair")
def fixture_pair(layouts) -> tuple[nn.Module, nn.Module]:
    return layouts.lively("stylegan2")


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_snapshot_of_stylegan2_ada_pytorch_gives_the_same_images(tmp_path, pair, protocol, layouts):
    path = layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(*pair), protocol)
    imported = import_checkpoint(path, tmp_path / "out")
    assert imported["kind"] == "stylegan2-ada-pytorch"
    assert imported["not_imported"] == ["training_set_kwargs", "G", "augment_pipe"]
    assert imported["not_reproduced"] == ["the clamp of activations at 256: here nothing is clamped"]
    assert_same(tmp_path / "out", *pair)


def test_the_settings_of_stylegan3_code_are_read_too(tmp_path, pair, layouts):
    settings = {"synthesis_kwargs": {}, "channel_base": 112, "num_fp16_res": 4, "conv_clamp": None}
    path = layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(*pair), **settings)
    imported = import_checkpoint(path, tmp_path / "out")
    assert imported["not_reproduced"] == ["half precision at the 4 largest sizes: here all is single precision"]
    assert_same(tmp_path / "out", *pair)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_file_of_rosinality_gives_the_same_images_and_gets_a_mean_style(tmp_path, pair, zipped, layouts):
    G, D = pair
    g, d = layouts.rosinality_names(G, D)
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


def test_a_converted_file_of_rosinality_brings_its_mean_style(tmp_path, pair, layouts):
    G, D = pair
    g, _ = layouts.rosinality_names(G, D)
    torch.save({"g_ema": g, "latent_avg": G.w_avg}, tmp_path / "ffhq.pt")
    imported = import_checkpoint(tmp_path / "ffhq.pt", tmp_path / "out")
    assert imported["w_avg"] == "from the file"
    assert imported["not_imported"] == ["the discriminator: the file has none"]
    assert_same(tmp_path / "out", G, None)


def test_a_tensorflow_stylegan2_gives_the_same_images(tmp_path, pair, layouts):
    path = layouts.write_pickle(tmp_path / "net.pkl", layouts.tf_stylegan2(*pair))
    imported = import_checkpoint(path, tmp_path / "out")
    assert imported["kind"] == "tensorflow stylegan2"
    assert_same(tmp_path / "out", *pair)


@pytest.mark.parametrize(("fused", "variant"), [("auto", "released"), (False, "intended")])
def test_a_tensorflow_stylegan_gives_the_same_images_as_it_was_fused(tmp_path, fused, variant, layouts):
    """At 128 px the release fuses by itself, and only then rotates the kernel."""
    G, D = layouts.lively("stylegan", resolution=128, fmap_base=128, fmap_max=4, variant=variant)
    other, _ = layouts.lively(
        "stylegan", resolution=128, fmap_base=128, fmap_max=4, variant="released" if fused is False else "intended"
    )
    assert (G(latents(), noise="none") - other(latents(), noise="none")).abs().max() > 1e-2
    path = layouts.write_pickle(tmp_path / "net.pkl", layouts.tf_stylegan(G, D, fused_scale=fused))
    assert import_checkpoint(path, tmp_path / "out")["kind"] == "tensorflow stylegan"
    assert load_generator(tmp_path / "out").config.network.variant == variant
    assert_same(tmp_path / "out", G, D)


@pytest.mark.skipif(not ORACLE.is_file(), reason="the reference implementation's output is not at hand")
def test_the_published_implementations_own_weights_give_its_own_images(tmp_path, layouts):
    o = load_file(ORACLE)
    nets = [{k[2:]: v for k, v in o.items() if k.startswith(part)} for part in ("G.", "D.")]
    path = layouts.ada_pickle(tmp_path / "oracle.pkl", *nets)
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


def test_widths_that_no_preset_has_are_found(tmp_path, layouts):
    G, D = layouts.lively("stylegan2", fmap_base=45, fmap_max=11)  # 11, 11, 5 channels
    import_checkpoint(layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(G, D)), tmp_path / "out")
    assert_same(tmp_path / "out", G, D)


def test_the_card_says_where_the_weights_come_from(tmp_path, pair, layouts):
    path = layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(*pair))
    import_checkpoint(path, tmp_path / "out")
    card = json.loads((tmp_path / "out/config.json").read_text())
    assert card["images"] is None
    assert card["imported"]["file"] == "net.pkl"
    assert len(card["imported"]["sha256"]) == 64
    assert "non-commercial" in card["imported"]["licence"]
    assert str(tmp_path) not in (tmp_path / "out/config.json").read_text()


def test_a_discriminator_that_compares_other_groups_is_left_out(tmp_path, pair, layouts):
    G, D = layouts.ada_names(*pair)
    value = {
        "G_ema": layouts.persistent("Generator", G),
        "D": layouts.persistent("Discriminator", D, {"epilogue_kwargs": {"mbstd_group_size": 8}}),
    }
    imported = import_checkpoint(layouts.write_pickle(tmp_path / "net.pkl", value), tmp_path / "out")
    assert imported["not_imported"] == [
        "the discriminator: it was made with mbstd_group_size 8, and only 4 can be reproduced"
    ]
    assert_same(tmp_path / "out", pair[0], None)


def test_a_folder_that_is_not_empty_is_kept_unless_told_otherwise(tmp_path, pair, layouts):
    path = layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(*pair))
    import_checkpoint(path, tmp_path / "out")
    with pytest.raises(ConfigError, match="not empty"):
        import_checkpoint(path, tmp_path / "out")
    import_checkpoint(path, tmp_path / "out", overwrite=True)


def test_a_folder_that_holds_the_checkpoint_is_not_swept(tmp_path, pair, layouts):
    path = layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(*pair))
    with pytest.raises(ConfigError, match="out must be a folder that does not hold the checkpoint"):
        import_checkpoint(path, tmp_path, overwrite=True)
    assert path.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"c_dim": 10}, r"net\.pkl holds a generator with c_dim 10, but only 0 can be reproduced\."),
        ({"img_channels": 1}, r"img_channels 1, but only 3"),
        ({"synthesis_kwargs": {"architecture": "orig"}}, "architecture orig, but only skip"),
        ({"mapping_kwargs": {"lr_multiplier": 0.1}}, r"lr_multiplier 0\.1, but only 0\.01"),
        ({"synthesis_kwargs": {"resample_filter": [1, 2, 1]}}, r"resample_filter other, but only \[1, 3, 3, 1\]"),
    ],
)
def test_a_generator_that_cannot_be_reproduced_is_refused(tmp_path, pair, settings, message, layouts):
    path = layouts.ada_pickle(tmp_path / "net.pkl", *layouts.ada_names(*pair), **settings)
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
        ("mapping.fc0.bias", torch.zeros(70_000), "a layer of 70000 features; at most 65536 are read"),
        ("mapping.fc0.bias", None, "lacks the tensors of a StyleGAN2 generator, such as synthesis.b8.conv1.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, pair, name, value, message, layouts):
    G, D = layouts.ada_names(*pair)
    G = {key: tensor for key, tensor in G.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(layouts.ada_pickle(tmp_path / "net.pkl", G, D), tmp_path / "out")


@pytest.mark.parametrize("value", [[1, 2], {"weights": 1}, {"g_ema": 5}, {"G_ema": None}, "x", (1, 2, 3)])
def test_a_pickle_of_something_else_is_said_to_be_unknown(tmp_path, value, layouts):
    with pytest.raises(CheckpointError, match=r"^net\.pkl is no StyleGAN checkpoint that is known"):
        import_checkpoint(layouts.write_pickle(tmp_path / "net.pkl", value), tmp_path / "out")


def test_wrong_types_where_tensors_are_expected_are_refused(tmp_path, pair, layouts):
    G, _ = layouts.rosinality_names(*pair)
    torch.save({"g_ema": G | {"conv1.conv.weight": "text"}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"something else where the tensor conv1\.conv\.weight should be"):
        import_checkpoint(tmp_path / "a.pt", tmp_path / "out")
    networks = layouts.tf_stylegan2(*pair)
    networks[2].__dict__["variables"].append(("dlatent_avg", "text"))
    with pytest.raises(CheckpointError, match="something else where a network's variable should be"):
        import_checkpoint(layouts.write_pickle(tmp_path / "b.pkl", networks), tmp_path / "out")


def test_only_stylegan2_goes_back(tmp_path, layouts):
    G, D = layouts.lively("stylegan")
    import_checkpoint(layouts.write_pickle(tmp_path / "net.pkl", layouts.tf_stylegan(G, D)), tmp_path / "out")
    with pytest.raises(CheckpointError, match="out is a stylegan; stylegan2-ada-pytorch has names for stylegan2 alone"):
        export_checkpoint(tmp_path / "out", tmp_path / "back.safetensors")
