"""Figures against patches of known spectrum, and against what they must say."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from histoforensics.benchmarks.figures import (
    DASHES,
    SERIES,
    THEME,
    accuracy_figure,
    contact_sheet,
    generalization_figure,
    mean_spectrum,
    radial_decibels,
    spectra_figure,
)
from histoforensics.benchmarks.gallery import write_figures


def _texts(svg: bytes) -> str:
    return " ".join(ET.fromstring(svg).itertext())


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(values.round(), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def test_a_wave_of_period_eight_peaks_at_an_eighth_of_a_cycle():
    wave = 128 + 60 * np.cos(2 * np.pi * np.arange(64) / 8)
    pixels = _grey(np.broadcast_to(wave, (3, 64, 64)))
    spectrum = mean_spectrum(pixels)
    spectrum[32, 32] = -np.inf  # frequency zero
    rows, columns = np.unravel_index(np.argsort(spectrum, axis=None)[-2:], spectrum.shape)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(32, 24), (32, 40)]
    assert int(np.argmax(radial_decibels(pixels)[0])) == 7  # radius 8 comes eighth: 8 / 64 cycles per pixel
    assert radial_decibels(pixels).shape == (3, 32)


def test_white_noise_is_flat_and_twice_the_noise_is_six_decibels_more():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 10, (40, 64, 64))
    quiet, loud = radial_decibels(_grey(128 + noise)), radial_decibels(_grey(128 + 2 * noise))
    assert np.ptp(quiet.mean(axis=0)[4:]) < 1.5
    assert (loud - quiet).mean() == pytest.approx(20 * np.log10(2), abs=0.1)


def test_the_accuracy_figure_names_every_reader_and_counts(run):
    readers = run.results()["readers"]
    told = _texts(accuracy_figure(readers))
    assert all(reader["name"] in told and f"{reader['right']}/60" in told for reader in readers)
    assert "guessing" in told


def test_the_generalization_figure_has_a_panel_a_generator(run):
    results = run.results()
    told = _texts(generalization_figure(results["generalization"], results["same_generator"]))
    assert all(name in told for name in ("StyleGAN2", "PathologyGAN", "npr"))
    assert _texts(generalization_figure({}, {"npr": {"only": {"auc": 0.9, "ci95": None}}}))


def test_the_spectra_figure_names_real_tissue_and_every_generator(run):
    fakes = {name: patches.pixels() for name, patches in run.fakes.items()}
    told = _texts(spectra_figure(run.real.pixels(), fakes))
    assert all(name in told for name in ("Real", "StyleGAN", "PathologyGAN", "cycles per pixel", "95 % of real"))


def test_figures_are_the_same_bytes_again_and_carry_no_date(run):
    readers = run.results()["readers"]
    first = accuracy_figure(readers)
    assert first == accuracy_figure(readers)
    assert b"dc:date" not in first


def test_names_with_markup_are_escaped(run):
    readers = [run.results()["readers"][1] | {"name": "<script>alert(1)</script> & $x$"}]
    svg = accuracy_figure(readers)
    assert b"<script" not in svg
    assert "<script>alert(1)</script> & $x$" in _texts(svg)


def test_the_contact_sheet_shows_every_patch_in_its_own_colours(run):
    items, pixels = run.results()["exam"]["items"], run.exam.pixels()
    pixels = np.broadcast_to(np.array([10, 200, 30], np.uint8), pixels.shape)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(items, pixels))).convert("RGB")).astype(int)
    green = (np.abs(sheet - [10, 200, 30]) < 3).all(axis=2).mean()
    assert 0.45 < green < 0.75  # a patch covers 1 / (1.12 * 1.46) of its cell


def test_series_differ_in_more_than_colour_and_show_on_the_page():
    assert len(DASHES) == len(SERIES) == len(set(SERIES))

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    page = luminance(THEME["surface"])
    assert all((page + 0.05) / (luminance(colour) + 0.05) >= 3 for colour in SERIES)
    assert (page + 0.05) / (luminance(THEME["muted"]) + 0.05) >= 4.5


def test_all_figures_of_a_run_are_written(run, tmp_path):
    fakes = {name: patches.pixels() for name, patches in run.fakes.items()}
    write_figures(tmp_path / "figures", run.results(), run.exam, run.real.pixels(), fakes)
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert written == {
        "accuracy.svg", "generalization.svg", "spectra.svg", "distribution.svg", "reliability.svg", "reasons.svg",
        "robustness_auc.svg", "robustness_fpr.svg", "contact_sheet.png",
    }  # fmt: skip
