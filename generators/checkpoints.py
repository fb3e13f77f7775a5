"""Checkpoints: tensors in safetensors, everything else in JSON, written atomically; nothing is ever unpickled.

A run's folder::

    generator.safetensors     the generator to sample; its header holds the config, so that the file stands alone
    config.json               the same config for people
    discriminator.safetensors its discriminator, where the generator was imported with one
    state/step-00001000/      all that makes the next step; the last two are kept
        state.safetensors  state.json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from histoforensics.slides import CheckpointError, ConfigError, atomic_folder, file_digest, write_atomic
from histoforensics.slides.runcard import package_version

from .config import TrainConfig
from .families import FAMILIES, Discriminator, Generator
from .zoo import ZOO, zoo_folder

FORMAT = "histoforensics generator 1"
WEIGHTS = "generator.safetensors"
CRITIC = "discriminator.safetensors"
KEPT_STATES = 2


@dataclass(frozen=True)
class LoadedGenerator:
    """A generator ready to sample, and where it comes from."""

    module: Generator
    config: TrainConfig
    sha256: str  # of the weights file
    name: str
    card: dict[str, Any]  # format, version, images, lod, data; seconds of training where run.json or a pack tells
    lod: float  # halvings below full size at which a growing run stopped


def save_generator(out: Path, G: nn.Module, config: TrainConfig, card: Mapping[str, Any]) -> Path:
    """Write ``out``/generator.safetensors and ``out``/config.json; both appear whole.

    Args:
        out: Folder of the run.
        G: The generator to sample later, the averaged one where a run keeps one.
        config: The run.
        card: JSON values: images seen, lod, data.
    """
    return write_generator(out, G.state_dict(), config, card)


def write_generator(out: Path, tensors: Mapping[str, Tensor], config: TrainConfig, card: Mapping[str, Any]) -> Path:
    """As `save_generator`, of tensors under their names, in whatever precision they have."""
    whole = {"format": FORMAT, "version": package_version(), **card, "config": config.to_json()}
    text = json.dumps(whole, indent=1)
    path = write_atomic(out / WEIGHTS, save(_contiguous(tensors), metadata={"card": text}))
    write_atomic(out / "config.json", text + "\n")
    return path


def load_generator(path: Path | str, device: str = "cpu") -> LoadedGenerator:
    """The generator of a run's folder, of its weights file alone, or of the zoo by its name; in float32.

    An existing path goes before a name of `zoo.ZOO`.

    Raises:
        CheckpointError: Nothing there, not one of ours, damaged, or of another network.
    """
    if str(path) in ZOO and not Path(path).exists():
        path = zoo_folder(str(path))
    path = Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    if not path.exists():
        raise CheckpointError(
            f"{path.name} holds no generator: there is no such file or folder, and the shipped ones are "
            f"{', '.join(ZOO)}."
        )
    if not file.is_file():
        raise CheckpointError(
            f"{path.name} holds no generator ({WEIGHTS} is missing); train one, or give another path."
        )
    tensors, header = _read(file)
    try:
        card = json.loads(header["card"])
        config = TrainConfig.from_json(card["config"])
        known = card["format"] == FORMAT
    except (KeyError, TypeError, ValueError) as err:
        raise CheckpointError(
            f"{file.name} does not carry a generator's card that this version can read: {err}."
        ) from err
    if not known:
        raise CheckpointError(f"{file.name} is of the format {card['format']!r}, but this version reads {FORMAT!r}.")
    network = config.network_at(float(card["lod"]))
    G, _ = FAMILIES[config.family].build(network, seed=0)  # a seed leaves the global stream alone
    _fill(G, tensors, file.name)
    name = path.resolve().name if path.is_dir() else path.stem
    module = G.to(device).eval().requires_grad_(False)
    seconds = _seconds(file.parent / "run.json", card["images"])
    card["seconds"] = card.get("seconds") if seconds is None else seconds
    return LoadedGenerator(module, config, file_digest(file), name, card, float(card["lod"]))


def save_discriminator(out: Path, D: nn.Module) -> Path:
    """Write ``out``/discriminator.safetensors, beside a generator of the same config."""
    return write_atomic(out / CRITIC, save(_contiguous(D.state_dict())))


def load_discriminator(folder: Path, config: TrainConfig, lod: float = 0.0) -> Discriminator | None:
    """The discriminator beside an imported generator, or of a run's newest state; None where there is neither.

    Raises:
        CheckpointError: It is damaged, or not of ``config`` at this stage of growth.
    """
    file = folder / CRITIC
    states = _states(folder)
    if file.is_file():
        tensors, _ = _read(file)
    elif states:
        file = states[-1] / "state.safetensors"
        whole, _ = _read(file)
        tensors = {name.removeprefix("D/"): tensor for name, tensor in whole.items() if name.startswith("D/")}
    else:
        return None
    _, D = FAMILIES[config.family].build(config.network_at(lod), seed=0)
    _fill(D, tensors, file.name)
    return D.eval().requires_grad_(False)


@dataclass
class State:
    """All that makes the next step: tensors by "part/name", and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save_state(out: Path, step: int, state: State) -> Path:
    """Write ``out``/state/step-N; older states go once the new one stands."""
    folder = out / "state" / f"step-{step:08d}"
    if folder.exists():
        shutil.rmtree(folder)
    with atomic_folder(folder) as work:
        (work / "state.safetensors").write_bytes(save(_contiguous(state.tensors)))
        (work / "state.json").write_text(json.dumps(state.values, indent=1) + "\n")
    for old in _states(out)[:-KEPT_STATES]:
        shutil.rmtree(old)
    return folder


def load_state(out: Path) -> State | None:
    """The newest state of a run's folder, None where a run may begin.

    A folder that a killed run was still writing has another name and is swept away here.

    Raises:
        ConfigError: The folder holds a generator without a state: a new run would overwrite its weights.
        CheckpointError: The state is damaged.
    """
    for leftover in (out / "state").glob(".*"):
        shutil.rmtree(leftover)
    states = _states(out)
    if not states and (out / WEIGHTS).exists():
        raise ConfigError(
            f"{out.name} holds a generator and no state to go on from (it was imported, packed or copied), and a new "
            f"run would overwrite it; choose another --out."
        )
    if not states:
        return None
    tensors, _ = _read(states[-1] / "state.safetensors")
    try:
        values = json.loads((states[-1] / "state.json").read_text())
    except (OSError, ValueError) as err:
        raise CheckpointError(
            f"{states[-1].name}/state.json is damaged: {err}; delete that folder to resume earlier."
        ) from err
    return State(tensors, values)


def module_tensors(part: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers under "part/name"."""
    return {f"{part}/{name}": tensor for name, tensor in module.state_dict().items()}


def fill_module(part: str, module: nn.Module, state: State) -> None:
    """Put what `module_tensors` gave back."""
    prefix = f"{part}/"
    _fill(module, {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}, part)


def adam_tensors(part: str, adam: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An Adam's moments and step counts under "part/parameter number/name"."""
    entries = adam.state_dict()["state"]
    return {f"{part}/{number}/{name}": value for number, entry in entries.items() for name, value in entry.items()}


def fill_adam(part: str, adam: torch.optim.Optimizer, state: State) -> None:
    """Put what `adam_tensors` gave back; the groups' settings are the config's."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in state.tensors.items():
        owner, *rest = key.split("/")
        if owner == part:
            entries.setdefault(int(rest[0]), {})[rest[1]] = value
    adam.load_state_dict({"state": entries, "param_groups": adam.state_dict()["param_groups"]})


def _seconds(run_card: Path, images: int) -> float | None:
    """How long the training took: not in the weights' file, so that equal runs give equal files."""
    if not run_card.is_file():
        return None
    run = json.loads(run_card.read_text())
    return float(run["training_seconds"]) if run.get("images") == images else None


def _states(out: Path) -> list[Path]:
    return sorted((out / "state").glob("step-*"))


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as err:
        raise CheckpointError(f"{file.name} is not a readable safetensors file: {err}.") from err


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    wanted = module.state_dict()
    wrong = sorted(wanted.keys() ^ tensors.keys()) or [k for k in wanted if wanted[k].shape != tensors[k].shape]
    if wrong:
        raise CheckpointError(f"{name} is of another network: its tensor {wrong[0]!r} does not fit.")
    module.load_state_dict({key: value.to(wanted[key].dtype) for key, value in tensors.items()})


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
