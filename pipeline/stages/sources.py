"""Which source data sets there are, and which options each takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.adapters.sources.base import Source
from pipeline.adapters.sources.chexpert import CheXpert
from pipeline.adapters.sources.medxpertqa import MedXpertQa
from pipeline.adapters.sources.mmmu import Mmmu
from pipeline.adapters.sources.ms_cxr import MsCxr
from pipeline.adapters.sources.nih_cxr14 import NihCxr14
from pipeline.adapters.sources.omnimedvqa import OmniMedVqa
from pipeline.adapters.sources.path_vqa import PathVqa
from pipeline.adapters.sources.pmc_vqa import PmcVqa
from pipeline.adapters.sources.rsna_pneumonia import RsnaPneumonia
from pipeline.adapters.sources.slake import Slake
from pipeline.adapters.sources.vindr_cxr import VindrCxr
from pipeline.adapters.sources.vqa_rad import VqaRad
from pipeline.stages.phantom_source import PhantomSource
from schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Entry:
    """`options` are settings of the source; `make` takes the root first, where one is needed."""

    make: Callable[..., Source]
    options: frozenset[str] = frozenset()
    needs_root: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)


SOURCES: dict[str, Entry] = {
    "phantom": Entry(
        PhantomSource,
        frozenset({"seed", "level", "n_train", "n_validation", "n_test", "side_px", "offset"}),
        needs_root=False,
        defaults={"seed": 0, "n_train": 200, "n_validation": 20, "n_test": 50},
    ),
    "vqa-rad": Entry(VqaRad, frozenset({"frames"})),
    "slake": Entry(Slake, frozenset({"language"})),
    "path-vqa": Entry(PathVqa),
    "pmc-vqa": Entry(PmcVqa, frozenset({"version", "test_set"})),
    "omnimedvqa": Entry(OmniMedVqa, frozenset({"access", "test_share", "seed"})),
    "mmmu": Entry(Mmmu, frozenset({"subjects"})),
    "medxpertqa": Entry(MedXpertQa),
    "nih-cxr14": Entry(NihCxr14),
    "rsna-pneumonia": Entry(RsnaPneumonia, frozenset({"window"})),
    "vindr-cxr": Entry(VindrCxr, frozenset({"window"})),
    "ms-cxr": Entry(MsCxr, frozenset({"key"})),
    "chexpert": Entry(CheXpert, frozenset({"key"})),
}
FLAGS = {"version": "--release", "key": "--patient-key-file"}  # where the command line has another word


def make_source(name: str, root: str | None, options: Mapping[str, Any]) -> Source:
    """The source called `name`; UsageError for an unknown name, a missing --root, or an option it does not take."""
    if name not in SOURCES:
        raise UsageError(f"unknown source {name!r}", fix=f"one of: {', '.join(sorted(SOURCES))}")
    entry = SOURCES[name]
    given = {key: value for key, value in options.items() if value is not None}
    check_options(name, given, entry.options)
    if entry.needs_root and root is None:
        raise UsageError(f"source {name} is read from a folder", fix="give it: --root DIR, or fetch it: --hub default")
    if not entry.needs_root and root is not None:
        raise UsageError(f"source {name} reads no folder", fix="leave out --root and --hub")
    settings = {**entry.defaults, **given}
    return entry.make(root, **settings) if entry.needs_root else entry.make(**settings)


def check_options(name: str, given: Mapping[str, Any], taken: frozenset[str]) -> None:
    if wrong := sorted(given.keys() - taken):
        what = f"source {name} does not take {', '.join(map(flag, wrong))}"
        raise UsageError(what, fix=f"options it takes: {', '.join(map(flag, sorted(taken))) or 'none'}")


def flag(option: str) -> str:
    """How the command line spells an option of a source."""
    return FLAGS.get(option, "--" + option.removeprefix("n_").replace("_", "-"))
