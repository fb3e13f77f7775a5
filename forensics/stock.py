"""The stock: trained detectors that come with the package, one folder each, loaded by name.

A folder of the stock is what :meth:`Detector.save` writes; its card holds what was measured, and where the detector
fails. `shipping` makes all of them again.
"""

from __future__ import annotations

from pathlib import Path

from histoforensics.slides import DetectorError

from .card import CARD, DetectorCard, read_card

STOCK = ("fusion", "encoder-linear", "wht-lr", "dct-ridge", "radial-lr", "npr")  # in the order they are made
STOCK_ROOT = Path(__file__).parent / "shipped"  # not `stock`: a folder of the name of a module misleads type checkers


def stock_folder(name: str) -> Path:
    """The folder of a shipped detector.

    Raises:
        DetectorError: If none of that name is shipped, or this installation lacks its files.
    """
    if name not in STOCK:
        raise DetectorError(f"{name} is not a shipped detector; these are: {', '.join(STOCK)}.")
    folder = STOCK_ROOT / name
    if not (folder / CARD).is_file():
        raise DetectorError(
            f"the shipped {name} is missing from this installation; install again, or train one with: "
            f"histoforensics detectors train {name} --real ... --fake ... --out ..."
        )
    return folder


def stock_card(name: str) -> DetectorCard:
    """The card of a shipped detector.

    Raises:
        DetectorError: As :func:`stock_folder`, or if its files were changed.
    """
    return read_card(stock_folder(name))


def in_stock() -> tuple[str, ...]:
    """The names of `STOCK` whose files this installation has."""
    return tuple(name for name in STOCK if (STOCK_ROOT / name / CARD).is_file())
