"""Configs and presets: the published schedules by arithmetic, JSON there and back, refusals."""

import json
from math import ceil, floor

import pytest

from histoforensics.generators import FAMILIES, Growth, TrainConfig, preset
from histoforensics.slides import ConfigError


def published_schedule(kimg, batches, initial=8, resolution=256, phase=600.0):
    """Written from the published loop's description: returns steps by resolution, and how often Adam is reset."""
    images, steps, resets, before = 0, {}, 0, -1.0
    while images < kimg * 1000:
        number, rest = divmod(images / 1000, 2 * phase)
        lod = (resolution // initial).bit_length() - 1 - number
        lod = max(lod - max(rest - phase, 0.0) / phase, 0.0)
        resets += floor(lod) != floor(before) or ceil(lod) != ceil(before)
        before = lod
        side = resolution >> floor(lod)
        steps[side] = steps.get(side, 0) + 4
        images += 4 * batches[side]
    return steps, resets


def test_the_paper_stylegan_follows_the_published_schedule():
    config = preset("stylegan", "paper")
    steps, images, resets, before = {}, 0, 1, config.lod(0)
    while images < 7_000_000:
        lod = config.lod(images)
        resets += (floor(lod), ceil(lod)) != (floor(before), ceil(before))
        before, side, batch = lod, 256 >> int(lod), config.batch_size(lod)
        steps[side] = steps.get(side, 0) + 4
        images += 4 * batch
    batches = {8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}
    expected, expected_resets = published_schedule(7000, batches)
    assert steps == expected
    assert resets == expected_resets == 11
    assert [steps[side] for side in (8, 16, 32, 64, 128)] == [4688, 9376, 18748, 37500, 75000]
    assert [config.learning_rates(config.lod(k * 1000))[0] for k in (0, 4500, 6000)] == [0.001, 0.0015, 0.002]


def test_the_paper_stylegan2_takes_the_published_number_of_steps():
    config = preset("stylegan2", "paper")
    assert config.kimg * 1000 / config.batch == 781_250
    assert (config.micro_batch, config.r1_every, config.path_every, config.path_weight) == (4, 16, 4, 2.0)
    assert config.growth is None


def test_the_paper_pathologygan_is_45_epochs_of_the_80_000_images_that_remain():
    config = preset("pathologygan", "paper")
    steps = config.kimg * 1000 / config.batch
    assert steps == 45 * 80_000 / 64 == 56_250
    assert steps / config.g_every == 11_250
    assert config.betas == (0.5, 0.999)
    assert (config.gradient_penalty, config.orthogonal, config.ema_kimg, config.order) == (0.65, 0.0, None, "file")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_paper_preset_tells_what_is_stated_and_what_takes_effect(family):
    assert preset(family, "paper").stated
    assert preset(family, "compact").stated == ()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["compact", "zoo", "paper"])
def test_a_config_survives_json(family, name):
    config = preset(family, name, seed=7)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(("family", "px"), [("stylegan", 128), ("stylegan2", 128), ("pathologygan", 112)])
def test_compact_runs_draw_the_judged_field_of_view(family, px):
    assert preset(family).resolution == px


def test_growth_without_a_fade_steps_from_size_to_size():
    growth = Growth(initial_px=32, stable_kimg=2.0, fade_kimg=0.0)
    assert [growth.lod(n, 128) for n in (0, 1999, 2000, 3999, 4000, 9000)] == [2, 2, 1, 1, 0, 0]
    assert growth.images(128) == 4000


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kimg", [0.5, 20.0, 200.0, 5000.0])
def test_a_compact_run_spends_most_of_its_images_at_full_size_however_short_it_is(family, kimg):
    config = preset(family, kimg=kimg)
    assert config.lod(0) >= 2
    assert config.lod(round(0.4 * kimg * 1000) + 1) == 0


def test_growth_from_a_size_above_the_network_is_none_at_all():
    assert Growth(initial_px=256, stable_kimg=1.0).lod(0, 128) == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kimg": 0}, "kimg must be above 0, got 0"),
        ({"r1_gamma": -1.0}, r"r1_gamma must be at least 0, got -1\.0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"micro_batch": 5}, "micro_batch must be a divisor of the batch, 8, got 5"),
        ({"seed": -1}, "seed must be from 0"),
        ({"style_mixing": 1.1}, "style_mixing must be from 0 to 1"),
        ({"ema_kimg": 0.0}, "ema_kimg must be above 0 or none"),
        ({"ada_target": 1.0}, r"ada_target must be above -1 and below 1, or none, got 1\.0"),
        ({"ada_kimg": 0}, "ada_kimg must be above 0, got 0"),
        ({"ada_every": 0}, "ada_every must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1 or none"),
        ({"precision": "fp8"}, "precision must be fp32 or bf16"),
        ({"diff_augment": ("colour",)}, "diff_augment must be made of translation, cutout"),
        ({"growth": Growth()}, "fade_kimg must be 0 but for stylegan"),
    ],
)
def test_a_setting_out_of_range_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        preset("stylegan2", **changes)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [({"initial_px": 2}, "initial_px"), ({"stable_kimg": 0}, "stable_kimg"), ({"reread_steps": 0}, "reread_steps")],
)
def test_a_growth_out_of_range_is_refused(values, sentence):
    with pytest.raises(ConfigError, match=f"{sentence} must be"):
        Growth(**values)


def test_unknown_families_presets_and_settings_are_refused():
    with pytest.raises(ConfigError, match="family must be one of stylegan, stylegan2, pathologygan, got 'dcgan'"):
        preset("dcgan")
    with pytest.raises(ConfigError, match="preset must be one of compact, zoo, paper, got 'huge'"):
        preset("stylegan2", "huge")
    with pytest.raises(ConfigError, match="made of settings of this version, got 'warp'"):
        TrainConfig.from_json(preset("stylegan2").to_json() | {"warp": 1})
    values = preset("stylegan2").to_json()
    del values["kimg"]
    with pytest.raises(ConfigError, match="the config lacks settings"):
        TrainConfig.from_json(values)


def test_each_size_of_a_growth_may_have_lengths_of_its_own():
    growth = Growth(initial_px=32, stable_kimg=(15.0, 6.0), fade_kimg=(15.0, 10.0))
    assert [growth.lod(n * 1000, 128) for n in (0, 15, 22.5, 30, 36, 41, 46, 99)] == [2, 2, 1.5, 1, 1, 0.5, 0, 0]
    assert growth.images(128) == 46_000
    with pytest.raises(ConfigError, match="stable_kimg must be one number, or 3 from 32 px to 256"):
        growth.lod(0, 256)


def test_a_growth_comes_back_from_its_json():
    config = preset("stylegan", "zoo")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_learning_rates_fall_in_a_line_over_the_runs_end():
    config = preset("stylegan2", "compact", kimg=100, cooldown_kimg=20)
    assert [config.cooled(images) for images in (0, 80_000, 90_000, 95_000, 100_000)] == [1.0, 1.0, 0.5, 0.25, 0.0]
    assert preset("stylegan2", "compact", kimg=100).cooled(100_000) == 1.0


def test_diversity_needs_pairs():
    with pytest.raises(ConfigError, match="batch must be even where diversity compares pairs, got 5"):
        preset("stylegan2", "compact", batch=5, diversity=1.0)


@pytest.mark.parametrize(("px", "kimg"), [(32, 0), (64, 30), (128, 46), (256, 62)])
def test_the_long_run_has_a_stage_for_every_size_of_any_resolution(px, kimg):
    growth = preset("stylegan2", "zoo", resolution=px).growth
    assert (growth.images(px) if growth else 0) == 1000 * kimg
