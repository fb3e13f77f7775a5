"""Freezing calibration, thresholds and domain of a trained detector on a split that neither trained nor tests it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from histoforensics.slides import PatchError

from .calibration import Calibration, calibrate
from .detector import Detector, Groups, Pixels, check_pixels
from .leaks import refuse_overlap, sha256_of_patches, split_digest
from .ood import Domain


def freeze(
    detector: Detector,
    real: Pixels,
    fake: Pixels,
    *,
    real_groups: Groups | None = None,
    fake_groups: Groups | None = None,
    test: Iterable[str] = (),
) -> Calibration:
    """Choose scale, bias, thresholds, conformal p values and domain on a calibration split, and write them in the card.

    Args:
        detector: A fitted one; changed in place, with its card and the patches it has seen.
        real: Reals that no training saw, uint8 (n, patch_px, patch_px, 3).
        fake: Fakes that no training saw.
        real_groups: Block, slide or patient of each real (n,); each patch its own if None.
        fake_groups: Generator of each fake.
        test: The sha256s of the patches that the detector is to be judged on, from their manifest.

    Raises:
        PatchError: If a class is missing, a patch has the wrong size, is in both classes, has trained this detector, or
            is one of the test's.
    """
    for pixels in (real, fake):
        check_pixels(pixels, detector.patch_px, detector.name)
    digests = sha256_of_patches(real), sha256_of_patches(fake)
    refuse_overlap("real calibration", digests[0], "fake calibration", digests[1])
    both = digests[0] + digests[1]
    refuse_overlap("training", detector.seen.get("training", ()), "calibration", both)
    refuse_overlap("test", test, "calibration", both)
    if not len(real) or not len(fake):
        missing = "real" if not len(real) else "fake"
        raise PatchError(f"the calibration split has no {missing} patches; thresholds need both classes.")
    calibration = calibrate(
        detector.logits(real), detector.logits(fake), real_groups=real_groups, fake_groups=fake_groups
    )
    detector.calibrate(calibration)
    detector.seen = {**detector.seen, "calibration": both}
    detector.card = replace(
        detector.card,
        calibration=calibration,
        domain=Domain.measure(real, fake, real_groups),
        promise=calibration.promise,
        splits={split: split_digest(known) for split, known in detector.seen.items()},
    )
    return calibration
