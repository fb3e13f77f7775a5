"""What a training run is: one frozen config for the three families, written beside its checkpoints as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from histoforensics.slides import ConfigError, require

from .augment import Orientations, check_policy
from .data import Order
from .families import FAMILIES, NetworkConfig

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growing: each resolution is trained stable, then the next one fades in (Karras et al. 2018).

    StyleGAN fades as published. The other two do not grow as published; with a growth they are rebuilt at each new
    resolution from the weights of the one before, without a fade (`warmstart`).
    """

    initial_px: int = 8
    stable_kimg: float | tuple[float, ...] = 600.0  # one for every size below the full one, or a number each
    fade_kimg: float | tuple[float, ...] = 600.0
    reread_steps: int = 4  # the schedule is looked at every so many steps, as the published loop does

    def __post_init__(self) -> None:
        require(self.initial_px >= 4, "initial_px", "at least 4", self.initial_px)
        require(min(_each(self.stable_kimg)) > 0, "stable_kimg", "above 0", self.stable_kimg)
        require(min(_each(self.fade_kimg)) >= 0, "fade_kimg", "at least 0", self.fade_kimg)
        require(self.reread_steps >= 1, "reread_steps", "at least 1", self.reread_steps)

    @property
    def fades(self) -> bool:
        """Any size fades in."""
        return max(_each(self.fade_kimg)) > 0

    def halvings(self, resolution: int) -> int:
        """How many halvings below ``resolution`` the run begins."""
        return max((resolution // self.initial_px).bit_length() - 1, 0)

    def stages(self, resolution: int) -> list[tuple[float, float]]:
        """(stable, fade) in kimg of every size below ``resolution``, the smallest first.

        Raises:
            ConfigError: If the numbers given are not as many as there are sizes.
        """
        count = self.halvings(resolution)
        lengths = []
        for name in ("stable_kimg", "fade_kimg"):
            value = getattr(self, name)
            each = value if isinstance(value, tuple) else (value,) * count
            require(
                len(each) == count, name, f"one number, or {count} from {self.initial_px} px to {resolution}", value
            )
            lengths.append(each)
        return list(zip(*lengths, strict=True))

    def images(self, resolution: int) -> int:
        """Images after which the full size is reached."""
        return round(1000 * sum(stable + fade for stable, fade in self.stages(resolution)))

    def lod(self, images: int, resolution: int) -> float:
        """How many halvings below ``resolution`` the networks work after ``images`` images; 0 is full size.

        Examples:
            >>> [Growth().lod(n * 1000, 256) for n in (0, 600, 900, 1200, 6000)]
            [5.0, 5.0, 4.5, 4.0, 0.0]
        """
        left, rest = float(self.halvings(resolution)), images / 1000
        for stable, fade in self.stages(resolution):
            rest -= stable
            if rest < 0:
                return left
            if rest < fade:
                return left - rest / fade
            left, rest = left - 1, rest - fade
        return left


def _each(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What one training run is. Written beside its checkpoints as config.json."""

    family: str
    network: NetworkConfig
    kimg: float  # thousands of real images shown to the discriminator until the run is complete
    seed: int = 0
    batch: int = 16
    batch_at: tuple[tuple[int, int], ...] = ()  # (resolution, batch) while growing, over `batch`
    micro_batch: int | None = None  # gradients of parts of this size are summed before a step; None: the whole batch
    lr_g: float = 0.002
    lr_d: float = 0.002
    lr_at: tuple[tuple[int, float], ...] = ()  # (resolution, learning rate) while growing
    cooldown_kimg: float = 0.0  # length of the run's end, over which both learning rates fall to zero in a line
    betas: tuple[float, float] = (0.0, 0.99)
    g_every: int = 1  # D steps for each G step
    style_mixing: float = 0.9
    r1_gamma: float = 10.0  # weight of the R1 penalty (Mescheder et al. 2018)
    r1_every: int = 1  # 1: in every D step; k: a step of its own, every k, weighted by k
    path_weight: float = 0.0
    path_every: int = 4
    path_shrink: int = 2  # the path length is measured on a batch smaller by this factor
    path_decay: float = 0.01
    gradient_penalty: float = 0.0  # weight of PathologyGAN's penalty between real and fake
    orthogonal: float = (
        0.0  # weight of PathologyGAN's orthogonal regularisation, which its published code never applies
    )
    diversity: float = 0.0  # weight of the penalty on layouts that differ less than those of the reals
    ema_kimg: float | None = 10.0  # half-life of the averaged generator; None: no average
    ema_ramp: float | None = None  # half-life at most this share of the images seen so far
    growth: Growth | None = None
    orientations: Orientations = "none"
    diff_augment: tuple[str, ...] = ()
    ada_target: float | None = None  # mean sign of D's logits of reals that adaptive augmentation holds; None: off
    ada_kimg: float = 500.0  # thousands of images in which its chance could go from 0 to 1
    ada_every: int = 4  # steps between its moves
    order: Order = "auto"
    precision: Precision = "fp32"  # bf16: autocast in the phases that take no gradient of a gradient
    compile: bool = False  # torch.compile, in the same phases; rounds differently
    threads: int | None = None  # of the CPU; the last bits depend on it, so a resumed run keeps it. None: PyTorch's own
    snapshot_kimg: float = 10.0
    grid_side: int = 6  # sample grids show the square of this many images
    stated: tuple[tuple[str, str, str], ...] = ()  # (setting, as the paper states it, as it takes effect here)

    def __post_init__(self) -> None:
        require(self.family in FAMILIES, "family", f"one of {', '.join(FAMILIES)}", self.family)
        require(self.kimg > 0, "kimg", "above 0", self.kimg)
        require(0 <= self.seed < 2**63, "seed", "from 0 to 2^63 - 1", self.seed)
        for name in ("batch", "g_every", "r1_every", "path_every", "path_shrink", "grid_side"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("lr_g", "lr_d", "snapshot_kimg"):
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        for name in ("r1_gamma", "path_weight", "gradient_penalty", "orthogonal", "diversity", "cooldown_kimg"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        require(0 <= self.style_mixing <= 1, "style_mixing", "from 0 to 1", self.style_mixing)
        require(self.threads is None or self.threads >= 1, "threads", "at least 1 or none", self.threads)
        require(self.ema_kimg is None or self.ema_kimg > 0, "ema_kimg", "above 0 or none", self.ema_kimg)
        for batch in (self.batch, *(size for _, size in self.batch_at)):
            whole = self.micro_batch is None or (self.micro_batch >= 1 and batch % self.micro_batch == 0)
            require(whole, "micro_batch", f"a divisor of the batch, {batch}", self.micro_batch)
            pairs = not self.diversity or (self.micro_batch or batch) % 2 == 0
            require(pairs, "batch", "even where diversity compares pairs", self.micro_batch or batch)
        require(self.precision in get_args(Precision), "precision", "fp32 or bf16", self.precision)
        check_policy(self.diff_augment)
        target = self.ada_target is None or -1 < self.ada_target < 1
        require(target, "ada_target", "above -1 and below 1, or none", self.ada_target)
        require(self.ada_kimg > 0, "ada_kimg", "above 0", self.ada_kimg)
        require(self.ada_every >= 1, "ada_every", "at least 1", self.ada_every)
        if self.growth is not None and self.family != "stylegan":
            fade = self.growth.fade_kimg
            require(not self.growth.fades, "fade_kimg", "0 but for stylegan, the one that fades", fade)
        if self.growth is not None:
            self.growth.stages(self.resolution)  # refuses numbers that are not as many as its sizes

    @property
    def resolution(self) -> int:
        """Side of the images, pixels."""
        return self.network.resolution

    @property
    def is_released(self) -> bool:
        """The published behaviour is kept, quirks included."""
        return getattr(self.network, "variant", "released") == "released"

    def network_at(self, lod: float) -> NetworkConfig:
        """The network at this stage of growth: StyleGAN holds all its sizes at once, the others are rebuilt."""
        if self.family == "stylegan":
            return self.network
        return replace(self.network, resolution=self.resolution >> int(lod))

    def lod(self, images: int) -> float:
        """Halvings below full size after ``images`` images, 0 without growth."""
        return 0.0 if self.growth is None else self.growth.lod(images, self.resolution)

    def batch_size(self, lod: float) -> int:
        """The batch at this stage of growth."""
        return dict(self.batch_at).get(self.resolution >> int(lod), self.batch)

    def cooled(self, images: int) -> float:
        """The factor on both learning rates after ``images`` images: 1, and at the end of the run in a line to 0."""
        left = self.kimg - images / 1000
        return min(1.0, max(left, 0.0) / self.cooldown_kimg) if self.cooldown_kimg else 1.0

    def learning_rates(self, lod: float) -> tuple[float, float]:
        """(G, D) at this stage of growth, before the correction for lazy regularisation and before `cooled`."""
        rate = dict(self.lr_at).get(self.resolution >> int(lod))
        return (self.lr_g, self.lr_d) if rate is None else (rate, rate)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives an equal config back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_json` wrote.

        Raises:
            ConfigError: A setting that this version does not know.
        """
        known = {field.name for field in fields(cls)}
        for name in values:
            require(name in known, "config", "made of settings of this version", name)
        family = str(values.get("family"))
        require(family in FAMILIES, "family", f"one of {', '.join(FAMILIES)}", family)
        fixed = {name: _tuples(value) for name, value in values.items()}
        fixed["network"] = FAMILIES[family].config(**values["network"])
        if values.get("growth") is not None:
            fixed["growth"] = Growth(**{name: _tuples(value) for name, value in values["growth"].items()})
        try:
            return cls(**fixed)
        except TypeError as err:
            raise ConfigError(f"the config lacks settings: {err}.") from err


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
