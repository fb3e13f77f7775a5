"""Where the fakes of a run come from, what is told of them, and whether they are known to be of the real tissue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from histoforensics.generators import LoadedGenerator, load_generator
from histoforensics.slides import PatchSet

from .brief import PUBLISHED_KIMG, TITLES, train_generators
from .config import BenchmarkConfig
from .learning import Narrator
from .results import GeneratorFacts
from .sources import Fakes, StandIn
from .tissue import Tissue

GIVEN, CHECKPOINT = "given as a folder of patches", "given as a checkpoint"
TRAINED, SHIPPED = "trained in this run", "shipped with the tool"
NOT_GENERATED = (
    "No generator made these fakes. They are real tissue that took the last step of one, so that nothing but that step "
    "can tell them; a generator's fakes have more that is wrong with them, and may hide this."
)
RESAMPLED = "no generator: real tissue of the same split, halved and enlarged again"


def made(config: BenchmarkConfig, tissue: Tissue, home: Path, narrate: Narrator) -> dict[str, Fakes]:
    """The fakes of a run for which none were given: stand-ins, generators trained under ``home``, or shipped ones."""
    if config.stand_ins:
        return {kernel: StandIn(kernel) for kernel in config.stand_ins}
    if config.train_generators:
        return dict(train_generators(config, tissue, home, narrate))
    return dict(shipped(config.families, config.device))


def shipped(families: tuple[str, ...], device: str) -> dict[str, LoadedGenerator]:
    """Title to shipped generator."""
    return {TITLES[family]: load_generator(family, device) for family in families}


def generator_facts(source: Fakes, origin: str) -> GeneratorFacts:
    """What a report tells of one source of fakes.

    Args:
        source: The fakes.
        origin: Of a generator: given, trained or shipped.
    """
    if isinstance(source, StandIn):
        return GeneratorFacts(source=RESAMPLED)
    if isinstance(source, PatchSet):
        return GeneratorFacts(source=GIVEN)
    images = source.card.get("images")
    return GeneratorFacts(
        source=origin,
        resolution_px=source.config.resolution,
        seconds=source.card.get("seconds"),
        kimg=images / 1000 if isinstance(images, int) else None,
        published_kimg=PUBLISHED_KIMG.get(source.config.family),
        parameters_g=sum(p.numel() for p in source.module.parameters()),
        checkpoint_sha256=source.sha256,
        psi=1.0,
        noise="random",
    )


def why_not_fair(config: BenchmarkConfig, tissue: Tissue, sources: Mapping[str, Fakes]) -> str | None:
    """Why nothing may be concluded, a sentence: fakes of other tissue make every detector a tissue detector."""
    if config.same_source:
        return None
    foreign = [name for name, source in sources.items() if not is_of_tissue(source, tissue)]
    if not foreign:
        return None
    return (
        f"nothing shows that the fakes of {', '.join(foreign)} were generated from the real tissue given "
        f"({tissue.name}); a detector may tell the tissues apart instead of real from fake. If they were, say "
        "so with --same-source."
    )


def is_of_tissue(source: Fakes, tissue: Tissue) -> bool:
    """Whether the fakes are known to have been made from the training split of this tissue."""
    if isinstance(source, LoadedGenerator):
        learned = tissue.crop_source(source.config.resolution).digest
        return bool(source.card.get("data", {}).get("digest") == learned)
    return isinstance(source, StandIn)
