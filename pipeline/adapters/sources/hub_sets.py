"""Where each source lies on the Hugging Face Hub, and what of it is fetched: rows in Parquet, or files and archives.

An id given by hand must hold the same columns, splits or files as the one listed here. Nothing is fetched here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapters.sources.mmmu import ALL, HEALTH, Mmmu
from pipeline.adapters.sources.pmc_vqa import PmcVqa
from schemas.errors import UsageError

IMAGE_QUESTION_ANSWER = ("image", "question", "answer")
MMMU_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
MMMU_TEXTS = (
    *("id", "question", "options", "explanation", "img_type", "answer"),
    *("topic_difficulty", "question_type", "subfield"),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """A set whose rows hold their images; other `columns` are texts. A config becomes a folder of its name."""

    repo: str
    splits: tuple[str, ...]
    columns: tuple[str, ...] = IMAGE_QUESTION_ANSWER
    images: tuple[str, ...] = ("image",)
    configs: tuple[str | None, ...] = (None,)


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip file, the folder it becomes, and names of outer folders inside it that are left out."""

    file: str
    folder: str
    wrappers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """A set of plain files; every pattern must match one. `part` names the choice where a repository holds several."""

    repo: str
    patterns: tuple[str, ...]
    archive: Archive
    part: str = "files"


PMC_IMAGES = ("images", "figures", "images_2")
PMC_VQA = {
    "v1": Files(
        "RadGenome/PMC-VQA",
        ("train.csv", "test.csv", "test_clean.csv", "images.zip"),
        Archive("images.zip", "images", PMC_IMAGES),
        part="v1",
    ),
    "v2": Files(
        "RadGenome/PMC-VQA",
        ("train_2.csv", "test_2.csv", "images_2.zip"),
        Archive("images_2.zip", "images_2", PMC_IMAGES),
        part="v2",
    ),
}
SETS: dict[str, Rows | Files] = {
    "vqa-rad": Rows("flaviagiammarino/vqa-rad", ("train", "test")),
    "path-vqa": Rows("flaviagiammarino/path-vqa", ("train", "validation", "test")),
    "mmmu": Rows(
        "MMMU/MMMU",
        ("dev", "validation", "test"),
        columns=(*MMMU_TEXTS, *MMMU_IMAGES),
        images=MMMU_IMAGES,
        configs=HEALTH,
    ),
    "slake": Files(
        "BoKelvin/SLAKE",
        ("train.json", "validation.json", "test.json", "mask.txt", "imgs.zip"),
        Archive("imgs.zip", "imgs", ("imgs",)),
    ),
    "pmc-vqa": PMC_VQA["v1"],
    "medxpertqa": Files(
        "TsinghuaC3I/MedXpertQA", ("MM/*.jsonl", "images.zip"), Archive("images.zip", "images", ("images",))
    ),
    "omnimedvqa": Files(
        "foreverbeliever/OmniMedVQA", ("OmniMedVQA.zip",), Archive("OmniMedVQA.zip", "OmniMedVQA", ("OmniMedVQA",))
    ),
}


def hub_set(source: str, options: Mapping[str, Any]) -> Rows | Files:
    """What of `source` is fetched, given the options it will be read with; UsageError where it is not on the Hub."""
    if source not in SETS:
        what = f"fovea knows no copy of {source} on the Hub"
        raise UsageError(what, fix=f"give its folder: --root DIR; on the Hub are {', '.join(sorted(SETS))}")
    if source == "pmc-vqa":
        told = PmcVqa(Path(), test_set=options.get("test_set"), version=options.get("version"))
        return PMC_VQA[str(told.version)]
    found = SETS[source]
    if source == "mmmu" and isinstance(found, Rows) and options.get("subjects"):
        subjects = Mmmu(Path(), subjects=options["subjects"]).subjects
        if ALL in subjects:
            raise UsageError("subjects of MMMU are fetched by name", fix="--subjects Clinical_Medicine,Pharmacy")
        return replace(found, configs=subjects)
    return found
