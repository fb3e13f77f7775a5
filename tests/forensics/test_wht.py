"""Walsh-Hadamard blocks against Haar packets written out and hand-made blocks; the detector against scikit-learn."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histoforensics.forensics.augment import jpeg
from histoforensics.forensics.luma import ROUNDING_VARIANCE, luma
from histoforensics.forensics.wht import WHTDetector, wht_blocks, wht_statistics


def haar_packets(grey, level):
    """All sub-bands of the full Haar packet tree: sums and differences of neighbours, over the root of 2."""
    bands = [grey]
    for axis in (0, 1) * level:
        bands = [
            (np.take(b, range(0, b.shape[axis], 2), axis) + sign * np.take(b, range(1, b.shape[axis], 2), axis))
            / 2**0.5
            for b in bands
            for sign in (1, -1)
        ]
    return np.stack(bands)


def test_blocks_are_the_haar_packets_of_level_3_up_to_sign_and_order():
    grey = np.random.default_rng(0).uniform(0, 255, (48, 48))
    blocks = np.abs(wht_blocks(torch.from_numpy(grey[None]))[0].numpy().reshape(6, 6, 64))
    packets = np.abs(haar_packets(grey, 3))
    assert packets.shape == (64, 6, 6)
    matches = [[np.allclose(blocks[..., k], p, rtol=1e-6, atol=1e-6) for p in packets] for k in range(64)]
    assert np.sum(matches, 0).tolist() == [1] * 64
    assert np.sum(matches, 1).tolist() == [1] * 64


def test_blocks_keep_energy_and_leave_out_a_narrow_border():
    grey = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 20, 27)))
    blocks = wht_blocks(grey)
    assert blocks.shape == (2, 2 * 3, 64)
    assert torch.allclose(blocks.square().sum((1, 2)), grey[:, :16, :24].square().sum((1, 2)), rtol=1e-6)


def test_constant_block_has_only_the_flat_pattern():
    block = wht_blocks(torch.full((1, 8, 8), 5.0))[0, 0]
    assert block[0].item() == 40
    assert block[1:].abs().max().item() == 0


def test_stripes_of_one_pixel_stand_in_one_pattern():
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 8, 8)
    assert torch.nonzero(wht_blocks(stripes)[0, 0]).flatten().tolist() == [1]


def test_statistics_are_the_mean_and_deviation_of_the_log_in_each_pattern():
    grey = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (3, 64, 64)))
    logs = np.log(np.abs(wht_blocks(grey).numpy()))
    np.testing.assert_allclose(wht_statistics(grey), np.concatenate([logs.mean(1), logs.std(1)], 1), atol=1e-6)


def test_folded_forward_equals_the_pipeline_of_scikit_learn(blurred_noise):
    pixels, labels = blurred_noise(40, 32)
    detector = WHTDetector.fit(pixels, labels, seed=0, copies=0, penalties=(10.0,))
    views = WHTDetector.views(pixels, np.random.default_rng(0))
    measured = [detector.features(torch.from_numpy(np.ascontiguousarray(view))).double().numpy() for view in views]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8))
    pipeline.fit(np.concatenate(measured), np.tile(labels, len(views)))
    assert np.abs(detector.logits(pixels) - pipeline.decision_function(measured[0])).max() < 1e-3
    whole = wht_statistics(luma(torch.from_numpy(pixels)), ROUNDING_VARIANCE)
    assert measured[0].shape[1] == 70
    assert torch.allclose(whole[:, 9], torch.from_numpy(measured[0][:, 7]).float(), atol=1e-5)  # pattern (1, 1)


def test_detector_scores_all_eight_views_alike(blurred_noise):
    pixels, labels = blurred_noise(20, 32)
    detector = WHTDetector.fit(pixels, labels, seed=0)
    for view in (pixels[:, ::-1], pixels[:, :, ::-1], pixels.transpose(0, 2, 1, 3)):
        np.testing.assert_allclose(detector.logits(view), detector.logits(pixels), atol=1e-4)


def test_fit_sees_every_parity_of_the_grid():
    views = WHTDetector.views(np.zeros((1, 32, 32, 3), np.uint8), np.random.default_rng(0))
    parities = {((32 - view.shape[1]) % 2, (32 - view.shape[2]) % 2) for view in views}
    assert parities == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_unseen_enlargement_is_found_on_drawn_tissue_before_and_after_jpeg_and_off_the_grid(tissue, standin):
    train, test = tissue(60, 96, seed=1), tissue(40, 96, seed=2)
    fakes = standin(train, "bilinear", seed=3)
    labels = np.repeat([0, 1], 60)
    detector = WHTDetector.fit(np.concatenate([train, fakes]), labels, seed=0)
    unseen = standin(test, "nearest", seed=4)
    truth = np.repeat([0, 1], 40)
    both = np.concatenate([test, unseen])
    assert roc_auc_score(truth, detector.logits(both)) >= 0.98
    assert roc_auc_score(truth, detector.logits(jpeg(both, 70))) >= 0.95


def test_unseen_enlargements_are_found_on_real_tissue_before_and_after_jpeg(glas, standin):
    pixels, patients = glas
    held_out = np.isin(patients, np.unique(patients)[::3])
    train, test = pixels[~held_out], pixels[held_out][:60]
    fakes = standin(train, "bilinear", seed=3)
    detector = WHTDetector.fit(np.concatenate([train, fakes]), np.repeat([0, 1], len(train)), seed=0)
    truth = np.repeat([0, 1], len(test))
    for kernel in ("nearest", "smooth"):
        both = np.concatenate([test, standin(test, kernel, seed=4)])
        assert roc_auc_score(truth, detector.logits(both)) >= 0.98, kernel
        assert roc_auc_score(truth, detector.logits(jpeg(both, 70))) >= 0.95, kernel
