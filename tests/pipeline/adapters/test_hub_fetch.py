"""Fetching from a Hub of our own with the real clients: whole or not there, once, and read by the ordinary sources."""

import fcntl
import io
import json
import os
import subprocess
import sys
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.adapters.sources import hub_fetch, hub_sets
from pipeline.adapters.sources.hub_sets import Files, Rows, hub_set
from pipeline.adapters.sources.mmmu import HEALTH, Mmmu
from pipeline.adapters.sources.path_vqa import PathVqa
from pipeline.adapters.sources.pmc_vqa import PmcVqa
from pipeline.adapters.sources.slake import Slake
from schemas.errors import FoveaError, InputError, UsageError
from tests.fake_hub import COMMIT, running
from tests.pictures import jpeg, read_all
from tests.processes import ROOT

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CODE = """
import json, sys
from pathlib import Path
from pipeline.adapters.sources.hub_fetch import fetch
from schemas.errors import FoveaError
found = []
for source, options, more in json.loads(sys.argv[2]):
    try:
        found.append(str(fetch(Path(sys.argv[1]), source, options, **more).root))
    except FoveaError as error:
        found.append([type(error).__name__, error.what, error.where, error.fix])
print(json.dumps(found))
"""


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet(rows, columns):
    schema = pa.schema([(name, IMAGE if name.startswith("image") else pa.string()) for name in columns])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue()


def mmmu_card(split_names):
    lines = ["---", "configs:"]
    for config in HEALTH:
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [f"  - split: {split}\n    path: {config}/{split}-*" for split in split_names]
    return "\n".join([*lines, "---", ""]).encode()


def data_sets():
    shown = {"image": {"bytes": jpeg(3), "path": None}, "question": "is it?", "answer": "yes"}
    asked = {"img_name": "xmlab1/source.jpg", "question": "Which?", "answer": "CT", "q_lang": "en", "modality": "CT"}
    pmc = "index,Figure_path,Caption,Question,Choice A,Choice B,Choice C,Choice D,Answer,split\n"
    pmc += "0,PMC1_Fig1_1.jpg,words,Which?, A:x, B:y, C:z, D:w,B,test\n"
    of_mmmu = dict.fromkeys(hub_sets.MMMU_TEXTS, "x") | {"options": "['a', 'b']", "question_type": "multiple-choice"}
    of_mmmu |= {"id": "validation_Pharmacy_1", "question": "<image 1>?", "answer": "B", "image_1": shown["image"]}
    splits = ("dev", "validation", "test")
    return {
        "flaviagiammarino/path-vqa": {
            f"data/{split}-00000-of-00001.parquet": parquet([shown] * 3, hub_sets.IMAGE_QUESTION_ANSWER)
            for split in ("train", "validation", "test")
        },
        "BoKelvin/SLAKE": {
            **{f"{split}.json": json.dumps([asked | {"qid": 1 + n}]).encode() for n, split in enumerate(
                ("train", "validation", "test"))},
            "mask.txt": b"1:Liver\n",
            "KG.zip": b"not wanted",
            "imgs.zip": zipped({"imgs/xmlab1/source.jpg": jpeg(1), "imgs/xmlab1/detection.json": b"[]"}),
        },
        "RadGenome/PMC-VQA": {
            "train_2.csv": pmc.encode(),
            "test_2.csv": pmc.encode(),
            "images_2.zip": zipped({"figures/PMC1_Fig1_1.jpg": jpeg(2)}),
        },
        "MMMU/MMMU": {
            "README.md": mmmu_card(splits),
            **{
                f"{config}/{split}-00000-of-00001.parquet": parquet(
                    [of_mmmu | {"id": f"{split}_{config}_1"}], (*hub_sets.MMMU_TEXTS, *hub_sets.MMMU_IMAGES)
                )
                for config in HEALTH
                for split in splits
            },
        },
        "somebody/half": {"train.json": b"[]", "imgs.zip": zipped({"../x": b"evil"})},
    }  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    for repo, files in data_sets().items():
        for name, data in files.items():
            (root / repo / name).parent.mkdir(parents=True, exist_ok=True)
            (root / repo / name).write_bytes(data)
    with running(root) as served:
        yield served


@pytest.fixture
def fetching(hub, tmp_path):
    """A process of its own that fetches (source, options, more) one after another; roots or errors."""

    def run(*asked, **environment):
        hub.served.clear()
        told = os.environ | hub.environment(tmp_path / "home") | environment
        command = [sys.executable, "-c", CODE, str(tmp_path / "store"), json.dumps(asked)]
        done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_what_is_fetched_is_read_by_the_ordinary_sources_and_fetched_once(hub, fetching, tmp_path):
    asked = (
        *(("path-vqa", {}, {}), ("slake", {}, {}), ("pmc-vqa", {"test_set": "test_2"}, {})),
        ("mmmu", {"subjects": "Pharmacy"}, {}),
    )
    roots = fetching(*asked)
    sources = [PathVqa(roots[0]), Slake(roots[1]), PmcVqa(roots[2], test_set="test_2"), Mmmu(roots[3], "Pharmacy")]
    counts = [[len(part) for part in read_all(source)] for source in sources]
    assert counts == [[1, 9, 0], [1, 3, 0], [1, 2, 0], [1, 3, 0]]
    assert all(f"/work/hub/{repo}/{COMMIT}" in root for root, repo in zip(roots, (
        "flaviagiammarino--path-vqa", "BoKelvin--SLAKE", "RadGenome--PMC-VQA", "MMMU--MMMU"), strict=True))  # fmt: skip
    assert not any("KG.zip" in name for name in hub.served)
    left = {path.name for path in (tmp_path / "store").rglob("*")}
    assert not {name for name in left if name.endswith((".zip", ".partial", ".tmp", ".cache", ".unpacking"))}
    assert fetching(*asked) == roots
    assert hub.served == []
    pinned = [(source, options, {"revision": COMMIT}) for source, options, _ in asked]
    assert fetching(*pinned, HF_HUB_OFFLINE="1") == roots  # a commit that is here needs no network
    (_, what, _, fix), *_ = fetching(*asked, HF_HUB_OFFLINE="1")
    assert "offline" in what
    assert fix == f"commits fetched before need no network: --hub-revision {COMMIT}"


def test_a_download_that_breaks_leaves_nothing_that_is_read(hub, fetching, tmp_path):
    asked = (("slake", {}, {}), ("path-vqa", {}, {}))
    first, last = (
        f"flaviagiammarino/path-vqa/data/{split}-00000-of-00001.parquet" for split in ("train", "validation")
    )
    hub.refused = {"BoKelvin/SLAKE/imgs.zip", last}
    try:
        errors = fetching(*asked)
    finally:
        hub.refused = set()
    assert [error[0] for error in errors] == ["InputError", "InputError"]
    assert all("403" in error[1] and "--root DIR" in error[3] for error in errors)
    assert first in hub.served
    assert not list((tmp_path / "store").rglob(f"{COMMIT}/*"))
    roots = fetching(*asked)
    assert "BoKelvin/SLAKE/train.json" not in hub.served  # it had arrived
    assert [len(read_all(source)[1]) for source in (Slake(roots[0]), PathVqa(roots[1]))] == [3, 9]


def test_what_is_not_there_is_said_with_a_way_out(fetching):
    found = fetching(
        ("medxpertqa", {}, {}),
        ("slake", {}, {"revision": "v9"}),
        ("slake", {}, {"repo": "somebody/half"}),
        ("slake", {}, {"repo": "../escape"}),
        ("slake", {}, {"repo": "pipeline/core"}),
        ("nih-cxr14", {}, {}),
    )
    kinds, whats = [one[0] for one in found], [one[1] for one in found]
    assert kinds == ["InputError", "InputError", "InputError", "UsageError", "UsageError", "UsageError"]
    assert "RepositoryNotFoundError" in whats[0]
    assert "RevisionNotFoundError" in whats[1]
    assert whats[2] == "there is no validation.json, test.json, mask.txt"
    assert "no id of a Hub data set" in whats[3]
    assert "a folder pipeline/core is here" in whats[4]
    assert "no copy of nih-cxr14" in whats[5]
    assert all(one[3] for one in found)
    assert "hf auth login" in found[0][3]


def test_without_a_network_it_says_what_where_and_how_to_mend_it(fetching):
    ((kind, what, where, fix),) = fetching(("path-vqa", {}, {}), HF_HUB_OFFLINE="1")
    assert (kind, where) == ("InputError", "the Hub's data set flaviagiammarino/path-vqa")
    assert "offline" in what
    assert "--root DIR" in fix


def test_two_processes_do_not_fetch_one_commit_at_once(tmp_path):
    home = tmp_path / "work" / "hub" / "flaviagiammarino--path-vqa"
    home.mkdir(parents=True)
    with (home / f"{COMMIT}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another fovea"):
            hub_fetch.fetch(tmp_path, "path-vqa", {}, revision=COMMIT)


def test_which_part_of_a_repository_the_options_mean():
    assert hub_set("pmc-vqa", {"test_set": "test_clean"}) == hub_sets.PMC_VQA["v1"]
    assert hub_set("pmc-vqa", {"version": "v2"}) == hub_sets.PMC_VQA["v2"]
    with pytest.raises(UsageError, match="cannot be compared"):
        hub_set("pmc-vqa", {})
    assert isinstance(hub_set("mmmu", {}), Rows)
    assert hub_set("mmmu", {}).configs == HEALTH
    assert hub_set("mmmu", {"subjects": "Pharmacy, Public_Health"}).configs == ("Pharmacy", "Public_Health")
    with pytest.raises(UsageError, match="by name"):
        hub_set("mmmu", {"subjects": "all"})


def test_every_archive_is_among_the_files_that_are_fetched():
    for wanted in [*hub_sets.SETS.values(), *hub_sets.PMC_VQA.values()]:
        assert "/" in wanted.repo
        if isinstance(wanted, Files):
            assert wanted.archive.file in wanted.patterns
        else:
            assert set(wanted.images) <= set(wanted.columns)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FoveaError, match="needs the library datasets") as caught:
        hub_fetch.library("datasets")
    assert caught.value.fix == "pip install datasets"
