"""A whole-slide image: opened by OpenSlide, read by level-0 coordinates, described by an allow-list of properties."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import openslide
import PIL
from numpy.typing import NDArray
from openslide.deepzoom import DeepZoomGenerator

from .atomic import file_digest
from .errors import LevelError, MppError, SlideNotFound, SlideUnreadable, require

if TYPE_CHECKING:
    from PIL import Image

    from .codec import Codec

# What may reach an output. Everything else (file name, user, date, scanner serial, barcode) may identify a person.
PUBLIC_PROPERTIES = ("openslide.vendor", "openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power")

# Older ones crash where an image lies in memory that is not Pillow's own, as OpenSlide's do.
_LENDS_PIXELS = int(PIL.__version__.partition(".")[0]) >= 13

_TILE_PIXELS = 1 << 27  # 512 MB as OpenSlide decodes it: it allocates a whole tile at once, and aborts if it cannot
_LEVELS_DIFFER = 4.0  # between the two axes' downsamples; padding to whole tiles makes for some, nonsense for more

_MPP_RANGE = (0.01, 1000.0)  # outside it the tag is a typing error or a unit mix-up


class Slide(AbstractContextManager["Slide"]):
    """One open slide. Coordinates are level-0 pixels from the top left; use it in a ``with`` block.

    Attributes:
        path: The file.
        name: Its stem, which is how outputs name the slide.
    """

    def __init__(self, path: Path, handle: openslide.OpenSlide, mpp: float | None) -> None:
        self.path = path
        self.name = path.stem
        self._handle = handle
        self._mpp = mpp
        self._kept_bytes: int | None = None

    @classmethod
    def open(cls, path: Path | str, mpp: float | None = None) -> Slide:
        """Open a slide.

        Args:
            path: The slide file.
            mpp: Micrometres per level-0 pixel; overrides what the file says.

        Raises:
            SlideNotFound: If no file is there.
            SlideUnreadable: If it is not a slide, is truncated, or its tags make no sense.
            ConfigError: If ``mpp`` is not a plausible size.
        """
        path = Path(path)
        require(mpp is None or _plausible(mpp), "mpp", "from 0.01 to 1000 um per pixel", mpp)
        handle = open_handle(path)
        nonsense = _nonsense(handle)
        if nonsense:
            handle.close()
            raise SlideUnreadable(f"{path.name}: its tags make no sense: {nonsense}.")
        return cls(path, handle, mpp)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Give the file back; reading afterwards fails."""
        self._handle.close()

    def keep_decoded(self, size_bytes: int) -> None:
        """How much of what was decoded is kept for further reads; without this it is OpenSlide's choice, 32 MB."""
        self._kept_bytes = size_bytes
        self._handle.set_cache(openslide.OpenSlideCache(size_bytes))

    @cached_property
    def digest(self) -> str:
        """The sha256 of the file, 64 hex digits."""
        return file_digest(self.path)

    @cached_property
    def codec(self) -> Codec:
        """What compressed level 0; see :func:`histoforensics.slides.codec.read_codec` for what it raises."""
        from .codec import read_codec

        return read_codec(self.path)

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height of level 0, pixels."""
        width, height = self._handle.dimensions
        return int(width), int(height)

    @property
    def level_count(self) -> int:
        """How many levels the file stores."""
        return int(self._handle.level_count)

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each level, pixels."""
        return tuple((int(width), int(height)) for width, height in self._handle.level_dimensions)

    @property
    def level_downsamples(self) -> tuple[float, ...]:
        """How many level-0 pixels one pixel of each level spans."""
        return tuple(float(factor) for factor in self._handle.level_downsamples)

    @property
    def tile_size(self) -> tuple[int, int] | None:
        """Width and height of level 0's stored tiles, pixels; ``None`` where the format does not tell."""
        sizes = [
            _number(self._handle.properties.get(f"openslide.level[0].tile-{side}")) for side in ("width", "height")
        ]
        known = [int(size) for size in sizes if size is not None and size >= 1]
        return (known[0], known[1]) if len(known) == 2 else None

    @property
    def mpp_or_none(self) -> float | None:
        """Micrometres per level-0 pixel, or ``None`` where neither the caller nor the file says it plausibly."""
        if self._mpp is not None:
            return self._mpp
        stated = [_number(self._handle.properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
        known = [value for value in stated if value is not None and _plausible(value)]
        return sum(known) / 2 if len(known) == 2 else None

    @property
    def mpp(self) -> float:
        """Micrometres per level-0 pixel, the mean of both axes.

        Raises:
            MppError: If the slide does not say.
        """
        mpp = self.mpp_or_none
        if mpp is None:
            raise MppError(f"{self.path.name}: does not say how many micrometres a pixel is; pass it with --mpp.")
        return mpp

    @property
    def properties(self) -> dict[str, str]:
        """The properties that may stand in an output; nothing that could name a person, a site or a day."""
        return {key: self._handle.properties[key] for key in PUBLIC_PROPERTIES if key in self._handle.properties}

    def read(self, x_level0: int, y_level0: int, width: int, height: int, level: int = 0) -> NDArray[np.uint8]:
        """A region as RGB (height, width, 3), uint8; what lies outside the slide is white.

        Args:
            x_level0: Left edge, level-0 pixels.
            y_level0: Top edge, level-0 pixels.
            width: Of the region, pixels of ``level``.
            height: Of the region, pixels of ``level``.
            level: Which stored level, 0 is the finest.

        Raises:
            LevelError: If the level is not stored.
            SlideUnreadable: If a part of the region cannot be decoded. The slide stays usable.
        """
        if not 0 <= level < self.level_count:
            last = self.level_count - 1
            raise LevelError(f"{self.path.name}: has no stored level {level}; its levels are 0 to {last}.")
        require(width > 0 and height > 0, "region", "at least 1 x 1 px", (width, height))
        try:
            region = self._handle.read_region((int(x_level0), int(y_level0)), level, (int(width), int(height)))
        except openslide.OpenSlideError as err:
            # After one failed read OpenSlide refuses every later one, so the handle is opened anew.
            self._handle.close()
            self._handle = open_handle(self.path)
            if self._kept_bytes is not None:
                self.keep_decoded(self._kept_bytes)
            place = f"{width} x {height} px at ({x_level0}, {y_level0}), level {level}"
            raise SlideUnreadable(f"{self.path.name}: {place} cannot be decoded ({err}).") from err
        rgba = _rgba(region)
        return _opaque(rgba) if _is_opaque(rgba) else _on_white(rgba)

    def deep_zoom(self, tile_px: int, overlap_px: int) -> DeepZoomGenerator:
        """OpenSlide's own Deep Zoom geometry of this slide; valid until a read fails, since that reopens the file."""
        return DeepZoomGenerator(self._handle, tile_size=tile_px, overlap=overlap_px, limit_bounds=True)

    def describe(self) -> dict[str, Any]:
        """Size, levels, resolution and public properties, ready for JSON."""
        return {
            "name": self.name,
            "sha256": self.digest,
            "width": self.dimensions[0],
            "height": self.dimensions[1],
            "levels": [
                {"width": width, "height": height, "downsample": factor}
                for (width, height), factor in zip(self.level_dimensions, self.level_downsamples, strict=True)
            ],
            "mpp": self.mpp_or_none,
            "properties": self.properties,
        }


def open_handle(path: Path) -> openslide.OpenSlide:
    """OpenSlide's handle of a file.

    Raises:
        SlideNotFound: If no file is there.
        SlideUnreadable: If it is not a slide, or is truncated.
    """
    if not path.exists():
        raise SlideNotFound(f"{path.name}: no such file.")
    if path.is_dir():
        raise SlideUnreadable(f"{path.name}: is a folder, a slide file is wanted.")
    try:
        return openslide.OpenSlide(path)
    except (openslide.OpenSlideUnsupportedFormatError, openslide.OpenSlideError) as err:
        size = path.stat().st_size
        raise SlideUnreadable(
            f"{path.name}: not a whole-slide image, or a truncated one ({size:,} bytes; OpenSlide says: {err})."
        ) from err


def _nonsense(handle: openslide.OpenSlide) -> str:
    """What a hostile or broken file says that would end in a crash or an endless scan; empty if nothing."""
    width, height = handle.dimensions
    for level, (across, down) in enumerate(handle.level_dimensions):
        sides = [
            _number(handle.properties.get(f"openslide.level[{level}].tile-{side}")) for side in ("width", "height")
        ]
        if (sides[0] or 0) * (sides[1] or 0) > _TILE_PIXELS:
            return f"the tiles of level {level} measure {sides[0]:.0f} x {sides[1]:.0f} px"
        factors = sorted((width / across, height / down))
        if factors[1] > _LEVELS_DIFFER * factors[0] and min(across, down) > 1:
            return f"level {level} of {across} x {down} px is no smaller copy of {width} x {height} px"
    return ""


def _rgba(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an RGBA image, (h, w, 4), where they lie.

    NumPy's own way to them goes through bytes, which are copied twice: 38 ms for 2200 x 2900 px against less than 0.1.
    """
    if not _LENDS_PIXELS:
        return np.asarray(image)
    import pyarrow as pa  # the process that deals a scan's slides out reads none, and needs none of it

    values: NDArray[np.uint8] = pa.array(image).flatten().to_numpy(zero_copy_only=True)
    return values.reshape(image.height, image.width, 4)


def _is_opaque(rgba: NDArray[np.uint8]) -> bool:
    """Whether every pixel is; nearly always so, and found out in a tenth of the time of looking at alpha alone."""
    together = np.bitwise_and.reduce(rgba.view(np.uint32), axis=None)
    return int(together.reshape(1).view(np.uint8)[3]) == 255


def _opaque(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours of opaque pixels (h, w, 4) as (h, w, 3).

    Pixels are stored whole, three bytes apart, so that each next one overwrites the alpha of the last: a quarter of the
    time of leaving every fourth byte out.
    """
    height, width = rgba.shape[:2]
    stored = np.empty(3 * height * width + 1, np.uint8)
    np.ndarray(height * width, np.uint32, stored, strides=(3,))[:] = rgba.view(np.uint32).reshape(-1)
    return stored[:-1].reshape(height, width, 3)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    mixed = rgb.astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((mixed + 127) // 255).astype(np.uint8)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _plausible(mpp: float) -> bool:
    return math.isfinite(mpp) and _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]
