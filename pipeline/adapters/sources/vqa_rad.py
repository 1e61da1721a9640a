"""VQA-RAD (Lau et al., Sci Data 2018): 315 MedPix images, in any of the three forms it travels in.

* osf – the authors' `VQA_RAD Dataset Public.json` and `VQA_RAD Image Folder/`; test rows say `test_` in phrase_type.
* mevf – `trainset.json`, `testset.json` and `images/`, the copy most code uses, with 1,267 templated `frame` rows more.
* parquet – the Hub's `train-*.parquet`, `test-*.parquet`: lower-cased words, no numbers, no types.

`closed` here means that the gold answer is yes or no. The source's own CLOSED also covers choices ("MRI", "left")
whose options it does not list; those stay `open`, and `answer_type` keeps what the source said. `question_type` is
one name or several, spelling repaired, sorted and joined by ", ". `phrase_type` is freeform, para or frame in every
form. Nothing says which modality an image has (`image_organ` does not), so it is null.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.sources import drafts, hub_parquet
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Draft, Group, Picture, Problem
from schemas.errors import InputError
from schemas.records import Image, Question

OSF_FILE = "VQA_RAD Dataset Public.json"
JSON_FORMS = {  # form -> image folder, and the split of each file's rows (None: each row says)
    "osf": ("VQA_RAD Image Folder", {OSF_FILE: None}),
    "mevf": ("images", {"trainset.json": "train", "testset.json": "test"}),
}
YES_NO = {"yes", "no"}
HUB_SPLITS = ("train", "test")
TYPE_REPAIRS = {"PRSE": "PRES", "ATRIB": "ATTRIB"}
FORMS_HINT = (
    f"one of: `{OSF_FILE}` with `VQA_RAD Image Folder/`; `trainset.json` and `testset.json` with `images/`; "
    "`data/train-*.parquet` and `data/test-*.parquet`"
)


@dataclass(frozen=True, slots=True)
class VqaRad:
    """`frames=False` leaves the templated rows of the mevf form unread."""

    root: Path
    frames: bool = True
    name: ClassVar[str] = "vqa-rad"
    revision: ClassVar[int] = 2
    licence: ClassVar[str] = "CC0-1.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"form": self.form(), "frames": self.frames}

    def form(self) -> str:
        """osf, mevf or parquet; InputError unless the folder is exactly one of them."""
        found = [form for form, (_, files) in JSON_FORMS.items() if all((self.root / name).is_file() for name in files)]
        found += ["parquet"] if hub_parquet.find(self.root, HUB_SPLITS) else []
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"VQA-RAD in {len(found)} forms at once: {found}", where=self.root, fix="keep one per folder"
            )
        raise InputError("no VQA-RAD here", where=self.root, fix=FORMS_HINT)

    def plan(self) -> list[SourceShard]:
        form = self.form()
        if form == "parquet":
            return hub_parquet.plan(self.root, hub_parquet.find(self.root, HUB_SPLITS) or {}, _hub_draft)
        folder, _ = JSON_FORMS[form]
        rows = drafts.without_repeats(self._json_drafts(form))
        return drafts.shards(rows, _image_names(self.root / folder), modality={})

    def digest(self, shard: SourceShard) -> str:
        form = self.form()
        if form == "parquet":  # image names are sha256 of the bytes: the drafts say it all
            return drafts.digest(shard, self.root, ())
        names = (group.image_name for group in shard.payload if group.image_name)
        return drafts.digest(shard, self.root / JSON_FORMS[form][0], names)

    def read(self, shard: SourceShard) -> SourceRows:
        form = self.form()
        if form == "parquet":
            pictures = hub_parquet.pictures(self.root, shard, source=self.name, licence=self.licence)
            return drafts.gather(self.name, shard, lambda group: pictures[group.image_name])
        return drafts.gather(self.name, shard, partial(self._file_picture, JSON_FORMS[form][0]))

    def _json_drafts(self, form: str) -> Iterator[Draft]:
        needs = ("qid", "question", "answer")
        for name, split in JSON_FORMS[form][1].items():
            for number, row in enumerate(drafts.json_list(self.root / name)):
                if self.frames or not _is_frame(row):
                    make = partial(_question, split)
                    yield drafts.draft(f"{name}#{number}", row, image="image_name", needs=needs, make=make)

    def _file_picture(self, folder: str, group: Group) -> Picture | Problem:
        path = f"{folder}/{group.image_name}"
        image = drafts.image_file(self.root / path, path, group, source=self.name, licence=self.licence)
        return Picture(image) if isinstance(image, Image) else image


def _image_names(folder: Path) -> Iterator[str]:
    """Names of the image files directly in `folder`; hidden files are no images."""
    if folder.is_dir():
        yield from (
            path.name
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )


def _is_frame(row: object) -> bool:
    return isinstance(row, dict) and str(row.get("phrase_type", "")).strip().lower() == "frame"


def _question(split: str | None, texts: dict[str, str]) -> Question:
    phrase = texts.get("phrase_type", "")
    return Question(
        question_id=f"{VqaRad.name}/{texts['qid']}",
        source=VqaRad.name,
        split=split or ("test" if phrase.lower().startswith("test_") else "train"),
        image_ids=(),
        question=texts["question"],
        answer=texts["answer"],
        answer_kind=_answer_kind(texts["answer"]),
        question_type=_question_type(texts.get("question_type", "")),
        phrase_type=_phrase_type(phrase),
        answer_type=texts.get("answer_type", "").upper() or None,
    )


def _hub_draft(row_key: str, split: str, number: int, row: dict[str, Any]) -> Draft:
    def make(texts: dict[str, str]) -> Question:
        return Question(
            question_id=f"{VqaRad.name}/hf-{split}-{number}",
            source=VqaRad.name,
            split=split,
            image_ids=(),
            question=texts["question"],
            answer=texts["answer"],
            answer_kind=_answer_kind(texts["answer"]),
        )

    return drafts.draft(row_key, row, image="image", needs=("question", "answer"), make=make)


def _answer_kind(answer: str) -> str:
    return "closed" if answer.casefold() in YES_NO else "open"


def _phrase_type(value: str) -> str | None:
    """freeform, para or frame: the authors' `test_para` and `test_paraphrase` are para."""
    phrase = value.lower().removeprefix("test_")
    return "para" if phrase == "paraphrase" else phrase or None


def _question_type(value: str) -> str | None:
    names = {name.strip().upper() for name in value.split(",")} - {""}
    return ", ".join(sorted({TYPE_REPAIRS.get(name, name) for name in names})) or None
