"""Studies: one TOML file says all of a benchmark run; the default run is itself such a file.

::

    title = "My slide"
    seed = 0
    [real]
    paths = ["slide.svs"]             # relative to this file; none: the sample slide
    [generators]
    source = "train"                  # or "zoo", the shipped ones, or "stand-ins": resampled real tissue
    [detectors]
    names = ["wht-lr", "npr"]
    seeds = [0, 1, 2]                 # of the networks among them
    [splits]                          # of folders of images; slides are split by blocks in a fixed layout
    by = "patient"
    train = 0.5                       # of the patients, or their names: ["P1", "P4"]
    calibration = 0.25
    exam = 0.25
    [perturbations]                   # these alone, at these severities
    jpeg = [90, 70, 50]

What is not named keeps the default of `BenchmarkConfig`. A path may hold the name of an
environment variable: "$DATA/slides".
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from histoforensics.slides import ConfigError

from .config import BenchmarkConfig
from .splits import ROLES, SplitRule

SHIPPED = Path(__file__).parent / "studies"
DEFAULT = "sample-slide"
_TOP = ""

# table -> key -> (field of BenchmarkConfig, wanted type)
TABLES: Mapping[str, Mapping[str, tuple[str, type]]] = MappingProxyType(
    {
        _TOP: {"title": ("title", str), "seed": ("seed", int)},
        "real": {
            "paths": ("real", list),
            "terms": ("terms", str),
            "mpp": ("mpp", float),
            "patch_px": ("patch_px", int),
        },
        "generators": {
            "source": ("train_generators", str),
            "families": ("families", list),
            "preset": ("generator_preset", str),
            "seconds": ("generator_seconds", float),
            "kimg": ("generator_kimg", float),
            "kernels": ("stand_ins", list),
        },
        "beside": {"families": ("beside", list)},
        "detectors": {
            "names": ("detectors", list),
            "cnn_seconds": ("cnn_seconds", float),
            "seeds": ("cnn_seeds", tuple),
        },
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
_SOURCES = ("zoo", "train", "stand-ins")
DEFAULT_KERNELS = ("bilinear", "bicubic", "nearest", "transposed", "lanczos")
_SPLITS = ("by", "table", *ROLES)
_PERTURBATIONS = "perturbations"  # a table of NAME = [severities]
_KINDS: Mapping[type, str] = {
    list: "a list of texts", tuple: "a list of whole numbers", str: "a text", bool: "true or false"
}  # fmt: skip


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
            fields["fake"] = {name: _path(path, _text(path.name, name, value)) for name, value in keys.items()}
        elif table == "splits" and isinstance(keys, dict):
            fields["splits"] = _split_rule(path, keys)
        elif table == _PERTURBATIONS and isinstance(keys, dict):
            fields[_PERTURBATIONS] = {name: _numbers(path.name, name, value) for name, value in keys.items()}
        elif isinstance(keys, dict):
            known = ", ".join([*(name for name in TABLES if name), "splits", _PERTURBATIONS, _FAKE])
            raise ConfigError(f"{path.name}: a study has no table [{table}]; it has {known}.")
    if "real" in fields and "real" not in changes:
        fields["real"] = tuple(_path(path, name) for name in fields["real"])
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
        fields[name] = tuple(value) if wanted in (list, tuple) else wanted(value)
    source = fields.get("train_generators")
    if source is not None:
        if source not in _SOURCES:
            raise ConfigError(f"{file}: generators.source must be {', '.join(_SOURCES)}, got {source!r}.")
        fields["train_generators"] = source == "train"
        if source == "stand-ins":
            fields.setdefault("stand_ins", DEFAULT_KERNELS)
    if "stand_ins" in fields and source != "stand-ins":
        raise ConfigError(f'{file}: generators.kernels go with generators.source = "stand-ins", got {source!r}.')
    return fields


def _fits(value: Any, wanted: type) -> bool:
    if wanted in (list, tuple):
        items = value if isinstance(value, list) else [None]
        return all(isinstance(item, str) if wanted is list else type(item) is int for item in items)
    if isinstance(value, bool):  # which is an int, too
        return wanted is bool
    return isinstance(value, int | float if wanted is float else wanted)


def _text(file: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{file}: fake.{name} must be the path of a folder or checkpoint, got {value!r}.")
    return value


def _path(study: Path, text: str) -> Path:
    """A path of a study: relative to its file, with the values of environment variables."""
    unset = [name for name in re.findall(r"\$\{?(\w+)", text) if name not in os.environ]
    if unset:
        raise ConfigError(
            f"{study.name}: the environment variable {unset[0]} is not set; {text} wants your folder of data."
        )
    return study.parent / os.path.expandvars(text)


def _split_rule(study: Path, keys: Mapping[str, Any]) -> SplitRule:
    told: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in _SPLITS:
            raise ConfigError(f"{study.name}: a study has no key splits.{key}; here it has {', '.join(_SPLITS)}.")
        if key in ROLES and isinstance(value, list):
            told[key] = tuple(_text_of(study.name, f"splits.{key}", item) for item in value)
        elif key in ROLES:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{study.name}: splits.{key} must be a share or a list of names, got {value!r}.")
            told[key] = float(value)
        else:
            text = _text_of(study.name, f"splits.{key}", value)
            told[key] = _path(study, text) if key == "table" else text
    return SplitRule(**told)


def _numbers(file: str, name: str, value: Any) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else []
    if not isinstance(value, list) or not all(type(one) in (int, float) for one in numbers):
        raise ConfigError(f"{file}: {_PERTURBATIONS}.{name} must be a list of numbers, got {value!r}.")
    return tuple(float(one) for one in numbers)


def _text_of(file: str, where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{file}: {where} must be a text, got {value!r}.")
    return value
