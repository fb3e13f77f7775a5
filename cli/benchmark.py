"""`histoforensics benchmark`: the main job."""


def benchmark() -> None:
    """Judge real and generated tissue with detectors, beside the published pathologist."""
