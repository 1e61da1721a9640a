"""OmniMedVQA (Hu et al., CVPR 2024): multiple-choice questions made from 73 classification data sets.

The root is the folder with `QA_information/{Open-access,Restricted-access}/<data set>.json` and `Images/`, or its
parent. There are no official splits. Here an image is test when uniform("omnimedvqa", seed, path of the image) <
`test_share`, else train: all questions of an image are in one split, whatever else is read, and growth moves nothing.
Slices of one volume have names of their own, so they may part; nothing in the rows tells volumes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.sources import drafts, figures, option_cells
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import Draft, Group, Picture, Problem
from schemas import seeds
from schemas.errors import InputError, UsageError
from schemas.records import Image, Question

ACCESS = {"open": ("Open-access",), "restricted": ("Restricted-access",), "all": ("Open-access", "Restricted-access")}
OPTIONS = ("option_A", "option_B", "option_C", "option_D")
MODALITY = ("modality_type", "modality")  # the second in at least one row


@dataclass(frozen=True, slots=True)
class OmniMedVqa:
    """`access`: open, restricted or all; images of restricted data sets have to be put into `Images/` by hand."""

    root: Path
    access: str = "open"
    test_share: float = 0.2
    seed: int = 0
    name: ClassVar[str] = "omnimedvqa"
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "LicenseRef-unknown"  # none is published

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.access not in ACCESS:
            raise UsageError(f"OmniMedVQA has the parts {list(ACCESS)}, not {self.access!r}")
        if not 0 <= self.test_share <= 1:
            raise UsageError(f"the share of test images must be in [0, 1], got {self.test_share}")

    def config(self) -> dict[str, Any]:
        return {"access": self.access, "test_share": self.test_share, "seed": self.seed}

    def folder(self) -> Path:
        """Where `QA_information` is: the root or `OmniMedVQA` in it."""
        for folder in (self.root, self.root / "OmniMedVQA"):
            if all(any(folder.glob(f"QA_information/{part}/*.json")) for part in ACCESS[self.access]):
                return folder
        parts = " and ".join(f"QA_information/{part}/*.json" for part in ACCESS[self.access])
        raise InputError("no OmniMedVQA here", where=self.root, fix=f"give the folder with {parts} and Images/")

    def plan(self) -> list[SourceShard]:
        return figures.shards(self._rows())

    def digest(self, shard: SourceShard) -> str:
        return figures.digest(shard, self.folder(), lambda image_name: (image_name,))

    def read(self, shard: SourceShard) -> SourceRows:
        folder = self.folder()
        modality = {figure.image_name: _modality(figures.kept_rows(figure)) for figure in shard.payload}

        def look(group: Group) -> Picture | Problem:
            path, known = group.image_name, replace(group, modality=modality[group.image_name])
            image = drafts.image_file(folder / path, path, known, source=self.name, licence=self.licence)
            return Picture(image) if isinstance(image, Image) else image

        return drafts.gather(self.name, figures.drafted(shard, self._draft), look)

    def split_of(self, image_path: str) -> str:
        return "test" if seeds.uniform(self.name, self.seed, image_path) < self.test_share else "train"

    def _rows(self) -> Iterator[tuple[str, str | None, object]]:
        """All rows of the chosen parts; of those with one question id, the first."""
        folder, taken = self.folder(), dict[str, str]()
        files = [f for part in ACCESS[self.access] for f in sorted((folder / "QA_information" / part).glob("*.json"))]
        for file in files:
            for number, row in enumerate(drafts.json_list(file)):
                key = f"{file.parent.name}/{file.name}#{number}"
                texts = row if isinstance(row, dict) else {}
                question_id = _question_id(key, drafts.text_of(texts.get("question_id")))
                first = taken.setdefault(question_id, key)
                repeat = Problem("duplicate_qid", f"{question_id} is taken by {first}")
                yield key, drafts.text_of(texts.get("image_path")), row if first == key else repeat

    def _draft(self, row_key: str, row: object) -> Draft:
        cells = row if isinstance(row, dict) else {}
        options = option_cells.options_of([cells.get(name) for name in OPTIONS])
        answer = drafts.text_of(cells.get("gt_answer")) or ""
        gold = options if isinstance(options, Problem) else option_cells.by_text(answer, options)

        def make(texts: dict[str, str]) -> Question:
            return Question(
                question_id=_question_id(row_key, texts.get("question_id")),
                source=self.name,
                split=self.split_of(texts["image_path"]),
                image_ids=(),
                question=texts["question"],
                answer=str(gold),
                answer_kind="choice",
                options=() if isinstance(options, Problem) else options,
                question_type=texts.get("question_type"),
            )

        drafted = drafts.draft(row_key, row, image="image_path", needs=("question", "gt_answer"), make=make)
        if isinstance(gold, Problem) and isinstance(drafted.outcome, Question):
            return replace(drafted, outcome=gold)
        return drafted


def _question_id(row_key: str, number: str | None) -> str:
    """Numbers may repeat from file to file, and may be missing: then the place in the file is the number."""
    file, _, place = row_key.rpartition(".json#")
    return f"{OmniMedVqa.name}/{file.rpartition('/')[2]}/{number or 'row-' + place}"


def _modality(rows: Iterable[object]) -> str | None:
    """What all rows of an image agree on; None where they do not, or tell none."""
    told = {drafts.text_of(row.get(name)) for row in rows if isinstance(row, dict) for name in MODALITY} - {None}
    return told.pop() if len(told) == 1 else None
