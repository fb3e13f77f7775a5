"""What a slide holds that may name a person, a place or a day: told by name alone, never by value.

No output of this project carries any of it: properties come from an allow-list, and label, macro and thumbnail images
are never decoded. This says what is left in the slide file itself, for whoever means to hand that on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openslide
import tifffile

from .slide import PUBLIC_PROPERTIES, open_handle

ASSOCIATED = ("label", "macro", "thumbnail")

# Words that scanners are known to use, by what they tell. Only a name that stands here is printed: a file may hold
# properties of any name, a patient's among them.
KNOWN: Mapping[str, frozenset[str]] = {
    kind: frozenset(words.split())
    for kind, words in {
        "patient or case": "patient patientid patientname patientsex patientbirthdate patientage caseid case "
        "accessionnumber studyid studyinstanceuid seriesinstanceuid specimenid specimenidentifier",
        "label or barcode": "barcode barcode1d barcode2d pimdpufsbarcode label labeltext slideid slidename title "
        "imageid containeridentifier rack slide",
        "operator": "user username operator operatorsname technician physician referringphysiciansname",
        "date or time": "date time timezone created updated scandate builddate creationdate slidecreationdatetime "
        "dicomacquisitiondatetime acquisitiondatetime contentdate contenttime studydate studytime datetime",
        "scanner": "scanscopeid dsrid sn devicemodel deviceversion deviceserialnumber serialnumber "
        "unitnumber dicomdeviceserialnumber stationname scannerid hostcomputer",
        "site": "institutionname institutionaddress department site projectname",
        "file": "filename jp2filename originalfilename documentname path",
        "free text": "comment imagedescription description artist copyright xmp iptc exif imagedescriptiontext",
    }.items()
}

_HARMLESS = re.compile(
    r"openslide\.(level|region|associated|icc|bounds|mpp|objective|vendor|quickhash|background)\S*"
    r"|tiff\.(X|Y)Resolution|tiff\.ResolutionUnit|tiff\.(Make|Model|Software)"
    r"|aperio\.(AppMag|MPP|StripeWidth|Parmset|Left|Top|LineCameraSkew|LineArea[XY]Offset|Focus Offset|OriginalWidth"
    r"|Original[Hh]eight|ICC Profile|Exposure Time|Exposure Scale|DisplayColor|SessionMode|Gamma|Filtered)"
)
_TAGS = {
    269: "DocumentName", 270: "ImageDescription", 285: "PageName", 306: "DateTime", 315: "Artist", 316: "HostComputer",
    700: "XMP", 33432: "Copyright", 33723: "IPTC", 34377: "Photoshop", 34665: "Exif", 34853: "GPS",
}  # fmt: skip


@dataclass(frozen=True)
class PhiReport:
    """Names of what a slide holds.

    Attributes:
        slide: The slide's name, which itself stands in outputs.
        images: Label, macro and thumbnail images.
        properties: Kind of information -> names of the properties that hold it.
        others: Properties of names that are not known; they are counted and not named.
        tags: TIFF tags that hold text or dates.
        in_outputs: The properties that outputs may carry.
    """

    slide: str
    images: tuple[str, ...]
    properties: Mapping[str, tuple[str, ...]]
    others: int
    tags: tuple[str, ...]
    in_outputs: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found but pixels and measures."""
        return not (self.images or self.properties or self.others or self.tags)

    def to_json(self) -> dict[str, Any]:
        """The report, ready for JSON."""
        return asdict(self)


def phi_report(path: Path | str) -> PhiReport:
    """What a slide holds beside its tissue and its measures; no value is read out.

    Raises:
        SlideNotFound: If no file is there.
        SlideUnreadable: If it is not a slide.
    """
    path = Path(path)
    handle = open_handle(path)
    try:
        names = list(handle.properties)
        images = _images(handle)
    finally:
        handle.close()
    properties, others = sort_properties(names)
    public = tuple(name for name in PUBLIC_PROPERTIES if name in names)
    return PhiReport(path.stem, images, properties, others, _tags(path), public)


def sort_properties(names: Iterable[str]) -> tuple[dict[str, tuple[str, ...]], int]:
    """The known names by what they tell, and how many are neither known nor harmless.

    >>> sort_properties(["aperio.User", "aperio.MPP", "aperio.Jane Doe"])
    ({'operator': ('aperio.User',)}, 1)
    """
    found: dict[str, list[str]] = {}
    others = 0
    for name in sorted(names):
        if _HARMLESS.fullmatch(name) or name in PUBLIC_PROPERTIES:
            continue
        vendor, _, rest = name.partition(".")
        word = re.sub(r"[^a-z0-9]", "", rest.rpartition(".")[2].lower())
        kind = next((kind for kind, words in KNOWN.items() if word in words), None)
        if kind is None or re.fullmatch(r"[a-z]{2,12}", vendor) is None:
            others += 1
        else:
            found.setdefault(kind, []).append(name)
    return {kind: tuple(found[kind]) for kind in KNOWN if kind in found}, others


def _images(handle: openslide.OpenSlide) -> tuple[str, ...]:
    """Names of the associated images; asked for by name, so that none is decoded."""
    there = set(handle.associated_images)
    named = [name for name in ASSOCIATED if name in there]
    return tuple(named) + ("another",) * len(there - set(ASSOCIATED))


def _tags(path: Path) -> tuple[str, ...]:
    """TIFF tags that hold text, with how many pages have them; none where the file is no TIFF."""
    try:
        with tifffile.TiffFile(path) as tiff:
            whole = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            pages = [[name for code, name in _TAGS.items() if code in page.tags] for page in whole]
    except (tifffile.TiffFileError, OSError, struct.error, ValueError, IndexError, KeyError):
        return ()
    names = [name for name in _TAGS.values() if any(name in page for page in pages)]
    return tuple(f"{name} ({sum(name in page for page in pages)} pages)" for name in names)
