"""PathVQA (He et al., 2020): questions on figures of pathology textbooks and of the PEIR library, in either form.

* lxmert – `pvqa_{train,val,test}.json`, one entry per image with parallel lists of questions and of {answer: score}
  labels, beside (or in `qas/` below) the folder that holds `images/{train,val,test}/<img_id>.jpg`.
* parquet – the Hub's `train-*`, `validation-*` and `test-*.parquet`.

The original `qas/*.pkl` are pickles, which run code when they are opened: they are not read. The lxmert form may lack
a split, and `config` says which it has. `closed` means a gold answer of yes or no; repeated rows are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.adapters.sources import drafts, hub_parquet
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Draft, Group, Picture, Problem
from schemas.errors import InputError
from schemas.records import Image, Question

LXMERT_SPLITS = {"train": "train", "validation": "val", "test": "test"}  # split -> the original's name of it
HUB_SPLITS = tuple(LXMERT_SPLITS)
JSON_FOLDERS = (".", "qas", "pvqa", "pvqa/qas")
YES_NO = {"yes", "no"}
FORMS_HINT = (
    "one of: `pvqa_train.json`, `pvqa_val.json`, `pvqa_test.json` (as the authors' repository has them under "
    "baselines/method1/saved/lxmert) with `images/{train,val,test}/`; the Hub's `data/train-*.parquet`, "
    "`data/validation-*.parquet` and `data/test-*.parquet`"
)


@dataclass(frozen=True, slots=True)
class PathVqa:
    root: Path
    name: ClassVar[str] = "path-vqa"
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "LicenseRef-PathVQA"  # the publishers of the textbooks hold the rights in the images

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        form = self.form()
        return {"form": form, "splits": list(HUB_SPLITS if form == "parquet" else self._json_files())}

    def form(self) -> str:
        """lxmert or parquet; InputError unless the folder is exactly one of them."""
        is_hub, is_lxmert = bool(hub_parquet.find(self.root, HUB_SPLITS)), bool(self._json_files())
        if is_hub and is_lxmert:
            raise InputError("PathVQA in 2 forms at once", where=self.root, fix="keep one per folder")
        if not is_hub and not is_lxmert:
            raise InputError(_nothing_here(self.root), where=self.root, fix=FORMS_HINT)
        return "parquet" if is_hub else "lxmert"

    def plan(self) -> list[SourceShard]:
        if self.form() == "parquet":
            return hub_parquet.plan(self.root, hub_parquet.find(self.root, HUB_SPLITS) or {}, _hub_draft)
        rows = [row for split, file in self._json_files().items() for row in _entries(self.root / file, split)]
        return drafts.shards(drafts.without_repeats(rows), _image_names(self.images()), modality={})

    def digest(self, shard: SourceShard) -> str:
        if self.form() == "parquet":  # image names are sha256 of the bytes: the drafts say it all
            return drafts.digest(shard, self.root, ())
        return drafts.digest(shard, self.images(), (group.image_name for group in shard.payload if group.image_name))

    def read(self, shard: SourceShard) -> SourceRows:
        if self.form() == "parquet":
            pictures = hub_parquet.pictures(self.root, shard, source=self.name, licence=self.licence)
            return drafts.gather(self.name, shard, lambda group: pictures[group.image_name])
        return drafts.gather(self.name, shard, self._file_picture)

    def images(self) -> Path:
        """The folder with train/, val/ and test/: `images` beside the JSON files or one level up."""
        folder = next((self.root / file).parent for file in self._json_files().values())
        found = [parent / "images" for parent in (folder, folder.parent) if (parent / "images").is_dir()]
        return found[0] if found else self.root / "images"

    def _json_files(self) -> dict[str, str]:
        """split -> path of its JSON file relative to the root, all from one folder."""
        for folder in JSON_FOLDERS:
            paths = {split: Path(folder) / f"pvqa_{name}.json" for split, name in LXMERT_SPLITS.items()}
            found = {split: path.as_posix() for split, path in paths.items() if (self.root / path).is_file()}
            if found:
                return found
        return {}

    def _file_picture(self, group: Group) -> Picture | Problem:
        path, file = f"images/{group.image_name}", self.images() / group.image_name
        image = drafts.image_file(file, path, group, source=self.name, licence=self.licence)
        return Picture(image) if isinstance(image, Image) else image


def _nothing_here(root: Path) -> str:
    if any(next(root.glob(pattern), None) for pattern in ("*.pkl", "qas/*.pkl", "pvqa/qas/*.pkl")):
        return "PathVQA's questions are here as pickles only; opening a pickle runs code, so fovea does not"
    return "no PathVQA here"


def _image_names(images: Path) -> Iterator[str]:
    """`<split>/<file>` of all image files; hidden files are no images."""
    for folder in LXMERT_SPLITS.values():
        for path in (images / folder).glob("*"):
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                yield f"{folder}/{path.name}"


def _entries(path: Path, split: str) -> Iterator[Draft]:
    """All questions of a file; `row_key` is file#entry.question."""
    for number, entry in enumerate(drafts.json_list(path)):
        key = f"{path.name}#{number}"
        pairs = _pairs(entry)
        if isinstance(pairs, Problem):
            yield Draft(key, (), pairs)
            continue
        for place, (asked, label) in enumerate(pairs):
            yield _pair_draft(f"{key}.{place}", split, place, {**entry, "question": asked, "answer": label})


def _pairs(entry: object) -> list[tuple[object, object]] | Problem:
    if not isinstance(entry, dict):
        return Problem("malformed_row", f"expected an object, found {type(entry).__name__}")
    columns = [entry.get(name) for name in ("sentf", "labelf")]
    lists = [column.get("pvqa") if isinstance(column, dict) else None for column in columns]
    if not all(isinstance(each, list) for each in lists) or len(lists[0]) != len(lists[1]):
        return Problem("malformed_row", "sentf.pvqa and labelf.pvqa are not two lists of one length")
    return list(zip(*lists, strict=True))


def _pair_draft(row_key: str, split: str, place: int, row: dict[str, Any]) -> Draft:
    row = row | {"answer": _best_answer(row["answer"])}
    if (img_id := drafts.text_of(row.get("img_id"))) is not None:
        row["image"] = f"{LXMERT_SPLITS[split]}/{img_id}.jpg"

    def make(texts: dict[str, str]) -> Question:
        return _question(f"{texts['img_id']}-{place}", split, texts)

    return drafts.draft(row_key, row, image="image", needs=("question", "answer"), make=make)


def _best_answer(label: object) -> str | None:
    """The answer with the highest score; None where there is none, or where several share it."""
    if not isinstance(label, dict) or not all(isinstance(score, int | float) for score in label.values()):
        return None
    best = [answer for answer, score in label.items() if score == max(label.values())]
    return best[0] if len(best) == 1 else None


def _hub_draft(row_key: str, split: str, number: int, row: dict[str, Any]) -> Draft:
    def make(texts: dict[str, str]) -> Question:
        return _question(f"hf-{split}-{number}", split, texts)

    return drafts.draft(row_key, row, image="image", needs=("question", "answer"), make=make)


def _question(number: str, split: str, texts: dict[str, str]) -> Question:
    return Question(
        question_id=f"{PathVqa.name}/{number}",
        source=PathVqa.name,
        split=split,
        image_ids=(),
        question=texts["question"],
        answer=texts["answer"],
        answer_kind="closed" if texts["answer"].casefold() in YES_NO else "open",
    )
