"""Studies: one TOML file says all of a benchmark run; the default run is itself such a file.

::

    title = "My slide"
    seed = 0
    [real]
    paths = ["slide.svs"]             # relative to this file; none: the sample slide
    [generators]
    source = "train"                  # or "zoo", the shipped ones
    [detectors]
    names = ["wht-lr", "npr"]

`TABLES` lists every key. What is not named keeps the default of `BenchmarkConfig`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from histoforensics.slides import ConfigError

from .config import BenchmarkConfig

SHIPPED = Path(__file__).parent / "studies"
DEFAULT = "sample-slide"
_TOP = ""

# table -> key -> (field of BenchmarkConfig, wanted type)
TABLES: Mapping[str, Mapping[str, tuple[str, type]]] = MappingProxyType(
    {
        _TOP: {"title": ("title", str), "seed": ("seed", int)},
        "real": {"paths": ("real", list), "mpp": ("mpp", float), "patch_px": ("patch_px", int)},
        "generators": {
            "source": ("train_generators", str),
            "families": ("families", list),
            "preset": ("generator_preset", str),
            "seconds": ("generator_seconds", float),
            "kimg": ("generator_kimg", float),
        },
        "detectors": {"names": ("detectors", list), "cnn_seconds": ("cnn_seconds", float)},
        "exam": {"size": ("exam_size", int)},
        "run": {
            "device": ("device", str),
            "threads": ("threads", int),
            "same_source": ("same_source", bool),
            "tamper": ("tamper", bool),
        },
    }
)
_FAKE = "fake"  # a table of NAME = "folder or checkpoint"
_SOURCES = ("zoo", "train")
_KINDS: Mapping[type, str] = {list: "a list of texts", str: "a text", bool: "true or false"}


def shipped_studies() -> tuple[str, ...]:
    """Names of the studies that come with the tool."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def read_study(study: str | Path, **changes: Any) -> BenchmarkConfig:
    """The run that a study describes, with ``changes`` to single fields of `BenchmarkConfig`.

    Args:
        study: Path of a TOML file, or the name of a shipped one.
        changes: Fields in place of the file's.

    Raises:
        ConfigError: No such file, not TOML, or a key or value that a study does not have.
    """
    path = _find(study)
    try:
        told = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as err:
        raise ConfigError(f"{path.name}: not a readable TOML file ({err}).") from err
    top = {key: value for key, value in told.items() if not isinstance(value, dict)}
    fields = _fields(path.name, _TOP, top)
    for table, keys in told.items():
        if table in TABLES and isinstance(keys, dict):
            fields |= _fields(path.name, table, keys)
        elif table == _FAKE and isinstance(keys, dict):
            fields["fake"] = {name: path.parent / _text(path.name, name, value) for name, value in keys.items()}
        elif isinstance(keys, dict):
            known = ", ".join([*(name for name in TABLES if name), _FAKE])
            raise ConfigError(f"{path.name}: a study has no table [{table}]; it has {known}.")
    if "real" in fields:
        fields["real"] = tuple(path.parent / name for name in fields["real"])
    return BenchmarkConfig(**{**fields, **changes})


def _find(study: str | Path) -> Path:
    if str(study) in shipped_studies():
        return SHIPPED / f"{study}.toml"
    if not Path(study).is_file():
        raise ConfigError(f"{study}: no such study; give a TOML file or one of {', '.join(shipped_studies())}.")
    return Path(study)


def _fields(file: str, table: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in keys.items():
        where = f"{table}.{key}" if table else key
        if key not in TABLES[table]:
            raise ConfigError(f"{file}: a study has no key {where}; here it has {', '.join(TABLES[table])}.")
        name, wanted = TABLES[table][key]
        if not _fits(value, wanted):
            raise ConfigError(f"{file}: {where} must be {_KINDS.get(wanted, 'a number')}, got {value!r}.")
        fields[name] = tuple(value) if wanted is list else wanted(value)
    if "train_generators" in fields:
        source = fields["train_generators"]
        if source not in _SOURCES:
            raise ConfigError(f"{file}: generators.source must be {' or '.join(_SOURCES)}, got {source!r}.")
        fields["train_generators"] = source == "train"
    return fields


def _fits(value: Any, wanted: type) -> bool:
    if wanted is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, bool):  # which is an int, too
        return wanted is bool
    return isinstance(value, int | float if wanted is float else wanted)


def _text(file: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{file}: fake.{name} must be the path of a folder or checkpoint, got {value!r}.")
    return value
