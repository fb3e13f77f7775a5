"""Sampling: one image a seed and number, whatever the batch; what is recorded with each."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from histoforensics.generators import fit, load_generator, sample, sample_patchset
from histoforensics.generators.sampling import latents, sheet, stream, to_pixels
from histoforensics.slides import CheckpointError, ConfigError


@pytest.fixture
def trained(tiny_config, pictures, tmp_path):
    """A trained tiny generator of a family."""

    def make(family="stylegan2"):
        config = tiny_config(family)
        fit(pictures(config.resolution), config, tmp_path / family)
        return load_generator(tmp_path / family)

    return make


@pytest.mark.parametrize("family", ["stylegan", "stylegan2", "pathologygan"])
@pytest.mark.parametrize("noise", ["random", "const"])
def test_the_same_seed_gives_the_same_images_whatever_the_batch(family, noise, trained):
    generator = trained(family)
    whole = np.concatenate(list(sample(generator, 7, seed=5, noise=noise, batch=7)))
    parts = np.concatenate(list(sample(generator, 7, seed=5, noise=noise, batch=2)))
    late = np.concatenate(list(sample(generator, 3, seed=5, noise=noise, start=4)))
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(whole[4:], late)
    assert len({one.tobytes() for one in whole}) == 7
    other = np.concatenate(list(sample(generator, 7, seed=6, noise=noise)))
    assert not np.array_equal(whole, other)


def test_psi_0_gives_the_average_image_for_every_latent(trained):
    images = np.concatenate(list(sample(trained(), 3, psi=0.0, noise="const")))
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_a_generator_without_an_average_style_cannot_truncate(trained):
    with pytest.raises(ConfigError, match=r"psi must be 1 for a generator that keeps no average style, got 0\.7"):
        list(sample(trained("pathologygan"), 1, psi=0.7))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"psi": 1.5}, "psi must be from 0 to 1"),
        ({"noise": "loud"}, "noise must be one of random, const, none"),
        ({"count": -1}, "count must be at least 0"),
        ({"batch": 0}, "batch must be at least 1"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(settings, sentence, trained):
    with pytest.raises(ConfigError, match=sentence):
        list(sample(trained(), **({"count": 1} | settings)))


def test_a_patch_set_of_fakes_records_where_each_comes_from(trained, tmp_path):
    generator = trained()
    patches = sample_patchset(generator, 5, tmp_path / "fakes", seed=4, psi=0.5, noise="none")
    row = patches.table.iloc[3]
    assert len(patches) == 5
    assert (row["label"], row["generator"], row["checkpoint_sha256"]) == ("fake", "stylegan2", generator.sha256)
    assert (row["seed"], row["psi"], row["noise_mode"], row["mpp"]) == (4, 0.5, "none", 0.5)
    np.testing.assert_array_equal(
        patches.pixels(), np.concatenate(list(sample(generator, 5, seed=4, psi=0.5, noise="none")))
    )
    assert "Synthetic" in Image.open(tmp_path / "fakes" / row["file"]).text


def test_sampling_leaves_the_global_random_numbers_alone(trained):
    generator = trained()
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    list(sample(generator, 2))
    load_generator_again = torch.randn(3)
    assert torch.equal(load_generator_again, expected)


def test_the_weights_file_stands_alone(trained, tmp_path):
    generator = trained()
    file = tmp_path / "elsewhere.safetensors"
    file.write_bytes((tmp_path / "stylegan2/generator.safetensors").read_bytes())
    alone = load_generator(file)
    assert alone.config == generator.config
    assert alone.name == "elsewhere"
    assert generator.card["seconds"] > 0
    for one, other in zip(sample(alone, 2), sample(generator, 2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_without_a_generator_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no generator \(generator\.safetensors is missing\)"):
        load_generator(tmp_path)


def test_a_damaged_or_foreign_file_is_refused_in_one_sentence(trained, tmp_path):
    trained()
    whole = (tmp_path / "stylegan2/generator.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is not a readable safetensors file"):
        load_generator(tmp_path / "cut.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors does not carry a generator's card"):
        load_generator(tmp_path / "foreign.safetensors")


def test_weights_of_another_network_are_refused_by_the_tensor_that_does_not_fit(trained, tmp_path):
    trained()
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "stylegan2/generator.safetensors"
    with safe_open(path, "pt") as opened:
        card = json.loads(opened.metadata()["card"])
    card["config"]["network"]["w_dim"] = 16
    save_file(load_file(path), tmp_path / "wrong.safetensors", metadata={"card": json.dumps(card)})
    with pytest.raises(
        CheckpointError, match=r"wrong\.safetensors is of another network: its tensor '.+' does not fit"
    ):
        load_generator(tmp_path / "wrong.safetensors")


def test_pixels_are_rounded_and_clipped_over_the_value_range():
    images = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    assert to_pixels(images, (0.0, 1.0)).ravel().tolist() == [0, 128, 255]
    assert to_pixels(images * 4 - 2, (-1.0, 1.0)).ravel().tolist() == [0, 128, 255]


def test_a_sheet_is_a_square_of_images_and_white_where_none_is_left():
    images = np.stack([np.full((2, 3, 3), v, np.uint8) for v in (1, 2, 3, 4, 5)])
    whole = sheet(images)
    assert whole.shape == (4, 9, 3)
    assert whole[::2, ::3, 0].tolist() == [[1, 2, 3], [4, 5, 255]]


def test_streams_of_random_numbers_do_not_collide():
    assert len({stream(a, b, c) for a in range(10) for b in range(10) for c in range(2)}) == 200
    assert all(0 <= stream(2**62, k) < 2**63 for k in range(10))
    assert not torch.equal(latents(0, 0, 4), latents(0, 1, 4))


@pytest.mark.parametrize(
    ("name", "mean", "most"), [("stylegan", 0.8, 3), ("stylegan2", 0.8, 3), ("pathologygan", 2.0, 10)]
)
def test_reduced_precision_draws_the_same_images_within_a_few_grey_levels(name, mean, most):
    generator = load_generator(name)
    reduced, full = (next(sample(generator, 8, precision=p)).astype(int) for p in ("bf16", "fp32"))
    difference = np.abs(full - reduced)
    assert 0 < difference.mean() < mean
    assert np.percentile(difference, 99) <= most
    fresh = next(sample(load_generator(name), 8)).astype(int)
    assert (fresh == full).all()  # nothing of reduced precision is kept


def test_reduced_precision_goes_on_record(trained, tmp_path):
    generator = trained()
    assert sample_patchset(generator, 1, tmp_path / "full").card["precision"] == "fp32"
    assert sample_patchset(generator, 1, tmp_path / "reduced", precision="bf16").card["precision"] == "bf16"


def test_an_unknown_precision_is_refused(trained):
    with pytest.raises(ConfigError, match="precision must be fp32 or bf16, got 'fp16'"):
        next(sample(trained(), 1, precision="fp16"))
