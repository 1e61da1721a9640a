"""MedXpertQA, multimodal part (Zuo et al., ICML 2025): five options, one to six images a question.

Read from the Hub's files (`MM/dev.jsonl`, `MM/test.jsonl`) or, where those are not, from the authors' evaluation input
(`*_mm_input.jsonl`, test rows only); `images.zip` unpacked beside or above them as `images/`. The options that every
question text repeats after "Answer Choices:" are cut off; a row whose two lists differ is refused. The five dev rows,
published as examples to show a model, become `train`. Modalities are not told, so they are null.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from pipeline.adapters.sources import choices, drafts, json_lines
from pipeline.adapters.sources.base import SourceRows, SourceShard
from pipeline.adapters.sources.drafts import IMAGE_SUFFIXES, Draft, Group, Picture, Problem
from schemas.errors import InputError
from schemas.records import Image, Question

HUB_FILES = {"train": "dev.jsonl", "test": "test.jsonl"}
HUB_FOLDERS = ("MM", ".")
INPUT_FILES = "*_mm_input.jsonl"
INPUT_FOLDERS = (".", "input", "eval/data/medxpertqa/input", "eval/data/medxpertqa_sampled/input")
IMAGES = "images"
APPENDED = "\nAnswer Choices:"


@dataclass(frozen=True, slots=True)
class MedXpertQa:
    root: Path
    name: ClassVar[str] = "medxpertqa"
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "MIT"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def config(self) -> dict[str, Any]:
        return {"form": self.form()[0]}

    def form(self) -> tuple[str, dict[str, Path]]:
        """hub or input, and the file of each split; InputError where neither form is."""
        for folder in (self.root / name for name in HUB_FOLDERS):
            files = {split: folder / name for split, name in HUB_FILES.items() if (folder / name).is_file()}
            if files:
                return "hub", files
        for folder in (self.root / name for name in INPUT_FOLDERS):
            found = sorted(folder.glob(INPUT_FILES))
            if len(found) == 1:
                return "input", {"test": found[0]}
        fix = f"give the folder with MM/test.jsonl and {IMAGES}/ (images.zip unpacked)"
        raise InputError("no MedXpertQA here", where=self.root, fix=fix)

    def images(self) -> Path:
        """The image folder: in the root, beside the row files, or one folder above them."""
        beside = next(iter(self.form()[1].values())).parent
        for folder in (self.root, beside, beside.parent):
            if (folder / IMAGES).is_dir():
                return folder / IMAGES
        raise InputError(f"no folder {IMAGES}/", where=self.root, fix=f"unpack images.zip to {self.root / IMAGES}")

    def plan(self) -> list[SourceShard]:
        folder = self.images()
        return drafts.shards(drafts.without_repeats(self._drafts()), _image_names(folder), modality={})

    def digest(self, shard: SourceShard) -> str:
        names = {name for group in shard.payload for name in group.image_names}
        return drafts.digest(shard, self.images(), sorted(names))

    def read(self, shard: SourceShard) -> SourceRows:
        folder = self.images()

        def look(group: Group) -> Picture | Problem:
            path = f"{IMAGES}/{group.image_name}"
            image = drafts.image_file(folder / group.image_name, path, group, source=self.name, licence=self.licence)
            return Picture(image) if isinstance(image, Image) else image

        return drafts.gather(self.name, shard, look)

    def _drafts(self) -> Iterator[Draft]:
        for split, path in self.form()[1].items():
            for number, row in json_lines.rows(path):
                names = _names(row)
                outcome = names if isinstance(names, Problem) else _question(split, row)
                yield Draft(f"{path.name}#{number}", () if isinstance(names, Problem) else names, outcome)


def _image_names(folder: Path) -> Iterator[str]:
    """Names of the image files in `folder`; hidden files are no images."""
    for path in folder.iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            yield path.name


def _names(row: object) -> tuple[str, ...] | Problem:
    """The image files of a row: names, or objects that hold one as `image_path`."""
    if isinstance(row, Problem):
        return row
    if not isinstance(row, dict):
        return Problem("malformed_row", f"expected an object, found {type(row).__name__}")
    told = row.get("images")
    if not isinstance(told, list) or not told:
        return Problem("missing_images", f"column `images` is {told!r:.80}")
    names = [drafts.text_of(each.get("image_path") if isinstance(each, dict) else each) for each in told]
    for each, name in zip(told, names, strict=True):
        if name is None:
            return Problem("missing_images", f"{each!r:.80} names no image")
        if not drafts.is_inside(name):
            return Problem("unsafe_path", f"{name!r:.80} points outside the image folder")
    return tuple(name for name in names if name is not None)


def _question(split: str, row: dict[str, Any]) -> Question | Problem:
    texts = {name: drafts.text_of(row.get(name)) for name in ("id", "question", "question_type")}
    label = row.get("label")
    letter = drafts.text_of(label[0] if isinstance(label, list) and len(label) == 1 else label)
    for name, text in (("id", texts["id"]), ("question", texts["question"]), ("label", letter)):
        if text is None:
            return Problem(f"missing_{name}", f"column `{name}` is {row.get(name)!r:.80}")
    options = _options(row.get("options"))
    if isinstance(options, Problem):
        return options
    stem = _stem(texts["question"], options)
    answer = choices.gold_of(letter, options)
    if (problem := next((each for each in (stem, answer) if isinstance(each, Problem)), None)) is not None:
        return problem
    return Question(
        question_id=f"{MedXpertQa.name}/{texts['id']}",
        source=MedXpertQa.name,
        split=split,
        image_ids=(),
        question=stem,
        answer=answer,
        answer_kind="choice",
        options=options,
        question_type=texts["question_type"],
    )


def _options(told: object) -> tuple[str, ...] | Problem:
    """Options as an object letter → text, or as a list of objects `letter`, `content`."""
    if isinstance(told, list) and all(isinstance(each, dict) for each in told):
        pairs = [(each.get("letter"), each.get("content")) for each in told]
    elif isinstance(told, dict):
        pairs = list(told.items())
    else:
        return Problem("bad_options", f"options are {told!r:.80}")
    pairs.sort(key=lambda pair: str(pair[0]))
    letters = [letter for letter, _ in pairs]
    if letters != list(ascii_uppercase[: len(letters)]):
        return Problem("bad_options", f"options have the letters {letters!r:.80}")
    return choices.options_of([text for _, text in pairs])


def _stem(question: str, options: tuple[str, ...]) -> str | Problem:
    """The question without the copy of its options."""
    stem, appended, copy = f"\n{question}".rpartition(APPENDED)
    if not appended:
        return question
    told = "".join(f"({letter}){text}" for letter, text in zip(ascii_uppercase, options, strict=False))
    if "".join(copy.split()) != "".join(told.split()):
        return Problem("options_differ", f"the question ends with other options than the row has: {copy.strip()!r:.80}")
    return stem.strip() or Problem("missing_question", "nothing stands before the options")
