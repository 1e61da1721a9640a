"""The options of `fovea ingest`, each with the sources that take it."""

from pathlib import Path
from typing import Annotated

import typer

Text, Number, Share = str | None, int | None, float | None


def _option(help_: str) -> typer.models.OptionInfo:
    return typer.Option(help=help_)


Root = Annotated[Path | None, _option("Folder of the data set in its original layout.")]
Hub = Annotated[Text, _option("Fetch it first: an id on the Hugging Face Hub, or default. Kept in STORE/work/hub.")]
HubRevision = Annotated[Text, _option("With --hub: a commit, branch or tag; default main.")]
SplitBy = Annotated[Text, _option("image or patient: move rows until no split shares one with another.")]
KeyFile = Annotated[Path | None, _option("Secret of yours, 16 bytes or more, that patient numbers are hashed with.")]
Language = Annotated[Text, _option("slake: en, zh or all.")]
Frames = Annotated[
    bool | None, typer.Option("--frames/--no-frames", help="vqa-rad: keep the templated rows of the MEVF layout.")
]
Release = Annotated[Text, _option("pmc-vqa: v1 or v2.")]
TestSet = Annotated[Text, _option("pmc-vqa: the file that is the test split: test, test_clean or test_2.")]
Access = Annotated[Text, _option("omnimedvqa: open, restricted or all.")]
TestShare = Annotated[Share, _option("omnimedvqa: share of the images that become test.")]
Subjects = Annotated[Text, _option("mmmu: subjects joined by commas, or all; default the five of Health & Medicine.")]
Window = Annotated[Text, _option("rsna-pneumonia, vindr-cxr: window of the DICOM files, by number, or minmax.")]
Level = Annotated[Text, _option("phantom: L0, L1, L2, L3 or hard.")]
Seed = Annotated[Number, _option("phantom, omnimedvqa: seed of what is drawn.")]
Train = Annotated[Number, _option("phantom: images in the train split.")]
Validation = Annotated[Number, _option("phantom: images in the validation split.")]
Test = Annotated[Number, _option("phantom: images in the test split.")]
SidePx = Annotated[Number, _option("phantom: side of the stored image.")]
Offset = Annotated[Number, _option("phantom: images of each split to skip.")]
Of = Annotated[Text, _option("control: source to copy, or SOURCE/NAME of its slice.")]
Kind = Annotated[Text, _option("control: blank, noise or shuffled.")]
Split = Annotated[Text, _option("control: split to copy; default test.")]
