"""Patches as a detector knows them: with the codec history that its training patches had.

A detector of the benchmark learned from patches that were put through every known compression of their source several
times over, until nothing told how often a patch had been through them before. Patches as a slide holds them went
through once, and a splice that somebody saved went through once more or less: a detector could take that for a sign of
its own. So a scan puts patches through the slide's own compressions as often as the detector's card says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from histoforensics.slides import Codec, CodecError, Slide, matched_codec, replay, require

if TYPE_CHECKING:
    from .detector import Detector, Pixels

History = Literal["card", "as-is"]


def parse_history(text: str) -> History:
    """The history that a user named.

    Raises:
        ConfigError: If it is neither.
    """
    require(text in get_args(History), "history", "card or as-is", text)
    return "as-is" if text == "as-is" else "card"


class Panel:
    """Detectors that judge patches of one slide.

    Args:
        judges: Name -> detector.
        codec: Of the slide; ``None`` leaves every patch as it is.
    """

    def __init__(self, judges: Mapping[str, Detector], codec: Codec | None = None) -> None:
        self.judges = dict(judges)
        self._codec = codec

    def score(
        self, patches: Pixels, x: NDArray[np.integer[Any]], y: NDArray[np.integer[Any]], batch: int = 32
    ) -> dict[str, NDArray[np.float32]]:
        """P(fake) of each detector, float32 (n,).

        Args:
            patches: uint8 (n, patch_px, patch_px, 3), as the slide holds them.
            x: Left edges, level-0 pixels, (n,): they place the codec's grid.
            y: Top edges.
            batch: Patches that a detector sees at once.
        """
        seen: dict[int, Pixels] = {0: patches}
        scores = {}
        for name, judge in self.judges.items():
            rounds = 0 if self._codec is None else judge.card.replay_rounds
            if rounds not in seen:
                assert self._codec is not None
                seen[rounds] = replay(self._codec, patches, x, y, rounds=rounds)
            scores[name] = judge.score(seen[rounds], batch)
        return scores


def slide_panel(slide: Slide, judges: Mapping[str, Detector], history: History = "card") -> tuple[Panel, str]:
    """The panel for a slide, and why its patches are judged as they are although a card asks for more; empty if so.

    Args:
        slide: An open slide.
        judges: Name -> detector.
        history: "card" replays the slide's compressions as often as each detector's card says, "as-is" never.
    """
    if history == "as-is" or not any(judge.card.replay_rounds for judge in judges.values()):
        return Panel(judges), ""
    try:
        return Panel(judges, matched_codec(slide.codec)), ""
    except CodecError as err:  # told in the verdict: the false-alarm rate is not known then
        return Panel(judges), str(err)
