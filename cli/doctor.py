"""`histoforensics doctor`: does this installation work?"""


def doctor() -> None:
    """Report versions and devices, and open a synthetic slide."""
