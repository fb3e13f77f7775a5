"""Patches drawn in the test, and real tissue where it is there."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

DATA = Path(os.environ.get("HISTOFORENSICS_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture(scope="session")
def blurred_noise():
    """Balanced patches, labels: white noise is real, the same blurred by half a pixel's neighbours is fake."""

    def draw(each, px, seed=0):
        rng = np.random.default_rng(seed)
        noise = rng.integers(0, 256, (2 * each, px, px, 3)).astype(np.uint8)
        noise[each:] = noise[each:] // 2 + np.roll(noise[each:], 1, axis=1) // 2
        return noise, np.repeat([0, 1], each)

    return draw


@pytest.fixture(scope="session")
def tissue():
    """Lossless patches that look like stained tissue: smooth purple clouds, dark nuclei and a camera's noise."""

    def draw(count, px, seed=0):
        rng = np.random.default_rng(seed)
        out = np.empty((count, px, px, 3), dtype=np.uint8)
        for i in range(count):
            cloud = ndimage.gaussian_filter(rng.standard_normal((px, px)), 6, mode="wrap")
            nuclei = ndimage.gaussian_filter(rng.random((px, px)), 2, mode="wrap") > rng.uniform(0.51, 0.53)
            nuclei = ndimage.gaussian_filter(nuclei.astype(float), 0.8)
            density = (0.5 + 0.3 * cloud / cloud.std())[..., None] * [0.15, 0.5, 0.2] + nuclei[..., None] * [
                0.6,
                0.6,
                0.3,
            ]
            grain = rng.normal(0, 2, (px, px, 1)) + rng.normal(0, 1, (px, px, 3))
            out[i] = np.clip(np.rint(240 * np.exp(-np.maximum(density, 0)) + grain), 0, 255)
        return out

    return draw


@pytest.fixture(scope="session")
def standin():
    """Fakes without a GAN: halved by area and enlarged again by a kernel, with noise that was enlarged along."""

    def enlarge(half, kernel):
        if kernel == "bilinear":
            return ndimage.zoom(half, (2, 2, 1), order=1, grid_mode=True, mode="nearest")
        if kernel == "nearest":
            return half.repeat(2, 0).repeat(2, 1)
        if kernel == "zero-insert":
            sparse = np.zeros((2 * half.shape[0], 2 * half.shape[1], 3))
            sparse[::2, ::2] = 4 * half
            taps = np.array([0.25, 0.5, 0.25])
            return ndimage.convolve1d(ndimage.convolve1d(sparse, taps, axis=0, mode="wrap"), taps, axis=1, mode="wrap")
        return ndimage.gaussian_filter(half.repeat(2, 0).repeat(2, 1), (0.7, 0.7, 0))

    def fine(image):
        return (image - ndimage.gaussian_filter(image, (1, 1, 0))).std()

    def make(pixels, kernel, seed=0):
        rng = np.random.default_rng(seed)
        out = np.empty_like(pixels)
        for i, patch in enumerate(pixels.astype(float)):
            n = len(patch) // 2
            smooth = enlarge(patch.reshape(n, 2, n, 2, 3).mean((1, 3)), kernel)
            noise = enlarge(rng.standard_normal((n, n, 3)), kernel)
            lost = max(fine(patch) ** 2 - fine(smooth) ** 2, 0) ** 0.5
            out[i] = np.clip(np.rint(smooth + lost / fine(noise) * noise), 0, 255)
        return out

    return make


@pytest.fixture(scope="session")
def glas():
    """Real lossless colon tissue: patches of 112 px with at least half tissue, and each one's patient."""
    folder = DATA / "glas"
    if not folder.is_dir():
        pytest.skip("the GlaS images are not here; set HISTOFORENSICS_DATA to the folder that holds glas/")
    rows = [line.split(",") for line in (folder / "manifest.csv").read_text().splitlines()[1:]]
    patches, patients = [], []
    rng = np.random.default_rng(0)
    for file, patient, *_ in rows:
        image = np.asarray(Image.open(folder / file).convert("RGB"))
        spots = [(y, x) for y in range(0, image.shape[0] - 111, 112) for x in range(0, image.shape[1] - 111, 112)]
        for k in rng.permutation(len(spots))[:4]:
            patch = image[spots[k][0] :, spots[k][1] :][:112, :112]
            if ((patch.max(2).astype(int) - patch.min(2)) > 20).mean() >= 0.5:
                patches.append(patch)
                patients.append(patient)
    return np.stack(patches), np.array(patients)
