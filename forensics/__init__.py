"""Find generated tissue: detectors, their calibration and the controls that keep them honest."""
