"""Published groups of readers: studies of many people, known by their averages.

A single published reader is a table of counts (`readers.PUBLISHED`). Of a group the average is known and the table is
not, and its unit is a decision: one person about one image. Such decisions are not independent, since one image is
judged by everybody and one person judges many. An interval that takes all of them for independent draws would be too
narrow by far, so none is computed here: what the authors printed is passed on, and where they printed none, it is none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

UNIT = "share of the decisions of one reader about one image; decisions are not independent, so no interval is computed"
HARTUNG = (
    "Hartung, Reuter, Kulow, Fähling, Spreckelsen & Mrowka, Experts fail to reliably detect AI-generated histological "
    "data, Scientific Reports 14:28677, 2024, doi:10.1038/s41598-024-73913-8: 816 students of German universities, 16 "
    "images of mouse kidney (PAS), fakes by Stable Diffusion."
)


@dataclass(frozen=True, kw_only=True)
class PublishedGroup:
    """Many readers of one study; rates in [0, 1], None where the study does not tell."""

    name: str
    readers: int
    images: int
    accuracy: float
    source: str
    sensitivity: float | None = None  # of decisions about fakes
    specificity: float | None = None  # of decisions about reals
    chance: float = 0.5  # what guessing scores
    printed95: tuple[float, float] | None = None  # the authors' interval of the accuracy, by their method

    @property
    def decisions(self) -> int:
        """How many decisions the rates are of, if everybody judged every image."""
        return self.readers * self.images

    def to_json(self) -> dict[str, Any]:
        """The group as grade.json holds it."""
        told = asdict(self) | {"printed95": None if self.printed95 is None else list(self.printed95)}
        return told | {"decisions": self.decisions, "unit": UNIT, "same_exam": False}


PUBLISHED_GROUPS: tuple[PublishedGroup, ...] = (
    PublishedGroup(name="290 naive readers, 2024", readers=290, images=16, accuracy=0.545, source=HARTUNG),
    PublishedGroup(
        name="526 experts, 2024", readers=526, images=16, accuracy=0.693, sensitivity=0.694, specificity=0.692,
        source=HARTUNG,
    ),
    PublishedGroup(
        name="32 gastroenterologists, 2025", readers=32, images=24, accuracy=0.612, chance=1 / 3,
        printed95=(0.577, 0.646),
        source="Evaluation of Perceptual Realism and Clinical Plausibility of AI-Generated Colon Polyp Images, "
        "Biomedicines 13:1561, 2025: endoscopies, three answers (real, augmented, synthetic); the printed interval "
        "takes decisions for independent.",
    ),
)  # fmt: skip
