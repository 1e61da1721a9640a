"""The part of `fovea audit` that measures an expert: its options, and which of two ways the answers are got."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from pipeline.adapters.experts.registry import make_expert
from pipeline.stages.audit_expert import ExpertReport, Which, audit_asked, audit_recorded
from pipeline.stages.audit_expert_page import PAGE, write_page
from pipeline.stages.audit_expert_shown import show
from pipeline.stages.consent import FLAG, check_consent
from pipeline.stages.expert_options import expert_settings
from pipeline.stages.progress import note
from pipeline.stages.reports import print_json
from schemas.errors import UsageError
from schemas.reader import Snapshot, Store

QUESTIONS = 200  # asked of an expert, unless told otherwise
LOOKS = 8  # as many boxes as a scan of an expert that ships has at most: to drill the surest alone flatters the drill

ExpertOption = Annotated[str | None, typer.Option(help="Measure this expert against annotated regions, and no more.")]
SliceOption = Annotated[str | None, typer.Option(help="The same for recorded answers: trajectories/phantom/openai.")]
SourceOption = Annotated[str | None, typer.Option(help="--expert: source whose questions it is asked.")]
IngestOption = Annotated[str | None, typer.Option(help="--expert: ingest slice, where the source has several.")]
SetOption = Annotated[list[str] | None, typer.Option(help="--expert: setting of the expert, name=value.")]
SendOption = Annotated[bool, typer.Option(FLAG, help="--expert at a url: the terms of the images allow it.")]
LooksOption = Annotated[int | None, typer.Option(min=1, help=f"--expert: most drills a question; default {LOOKS}.")]
SplitOption = Annotated[str | None, typer.Option(help="Of an expert: train, validation or test only.")]
TruthOption = Annotated[str | None, typer.Option(help="Of an expert: regions that count: asked, findings or all.")]
QuestionsOption = Annotated[
    int | None,
    typer.Option(min=1, help=f"Of an expert: most questions, and clear ones; default {QUESTIONS}, all where recorded."),
]
SeedOption = Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Of an expert: which questions are drawn.")]
OutOption = Annotated[Path | None, typer.Option(help="Of an expert: folder for report.html and reliability.svg.")]

# what is of no use to recorded answers
ASKED_ONLY = ("source", "ingest_name", "expert_set", "send_restricted", "looks_max")


@dataclass(frozen=True, slots=True)
class Given:
    """The options as they were given; None where they were not."""

    expert: str | None = None
    expert_slice: str | None = None
    source: str | None = None
    ingest_name: str | None = None
    expert_set: list[str] | None = None
    send_restricted: bool | None = None
    looks_max: int | None = None
    split: str | None = None
    truth: str | None = None
    questions: int | None = None
    seed: int | None = None
    out: Path | None = None

    @property
    def is_of_an_expert(self) -> bool:
        """Whether an expert is to be measured; UsageError for options that only make sense then."""
        if self.expert is not None or self.expert_slice is not None:
            return True
        if stray := self._given([each.name for each in fields(self)]):
            raise UsageError(f"{stray} is for measuring an expert", fix="name one: --expert NAME or --expert-slice KEY")
        return False

    def report(self, snapshot: Snapshot) -> ExpertReport:
        which = Which(self.split, self.truth or "asked", self.questions, self.seed or 0)
        if self.expert is None:
            return self._recorded(snapshot, which)
        return self._asked(snapshot, which, self.expert)

    def _asked(self, snapshot: Snapshot, which: Which, name: str) -> ExpertReport:
        if self.expert_slice is not None or self.source is None:
            raise UsageError(
                "--expert is asked about one source", fix="--expert saliency --source phantom, and no slice"
            )
        upstream = snapshot.slice(f"ingest/{self.source}/{self.ingest_name or 'default'}")
        settings = dict(expert_settings(self.expert_set or [], name, upstream.source))
        if "url" in settings and not self.send_restricted:
            check_consent(str(settings["url"]), upstream.licences)
        expert = make_expert(name, settings)
        try:
            which = Which(which.split, which.truth, which.n_questions or QUESTIONS, which.seed)
            return audit_asked(snapshot, upstream, which, expert, self.looks_max or LOOKS)
        finally:
            getattr(expert, "close", lambda: None)()

    def _recorded(self, snapshot: Snapshot, which: Which) -> ExpertReport:
        if stray := self._given(ASKED_ONLY):
            raise UsageError(f"{stray} is for an expert that is asked now", fix="leave it out, or take --expert NAME")
        return audit_recorded(snapshot, snapshot.slice(str(self.expert_slice)), which)

    def _given(self, names: list[str] | tuple[str, ...]) -> str:
        given = [name for name in names if getattr(self, name) not in (None, False)]
        return ", ".join("--" + name.replace("_", "-") for name in given)


def measure(store: Store, version: str | None, given: Given, json: bool) -> None:
    """Print the report of an expert, and write its page where a folder is given."""
    report = given.report(store.snapshot(version))
    if given.out is not None:
        write_page(report, given.out)
    if json:
        print_json(report.to_json(store.folder))
    else:
        show(report)
        if given.out is not None:
            note(f"the same with its pictures: {given.out / PAGE}")
