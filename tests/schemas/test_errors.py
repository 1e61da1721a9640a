import copy
import pickle

import pytest

from schemas.errors import (
    CheckpointError,
    ConflictError,
    DigestError,
    ExpertError,
    FoveaError,
    InputError,
    SchemaError,
    StoreError,
    TrainingError,
    UsageError,
)

KINDS = [
    FoveaError,
    UsageError,
    InputError,
    SchemaError,
    StoreError,
    DigestError,
    ConflictError,
    ExpertError,
    CheckpointError,
    TrainingError,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [{}, {"where": "part-0.parquet"}, {"fix": "pull it again"}, {"where": 7, "fix": "x"}])
@pytest.mark.parametrize("way", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_crosses_processes_whole(kind, lines, way):
    error = kind("the digest differs", **lines)
    back = way(error)
    assert type(back) is kind
    assert (back.what, back.where, back.fix) == (error.what, error.where, error.fix)
    assert str(back) == str(error)
    assert back.args == error.args


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("no such column"), "no such column"),
        (InputError("no such column", where="a.csv"), "no such column\n  where: a.csv"),
        (InputError("no such column", fix="add it"), "no such column\n  fix:   add it"),
        (InputError("no such column", where="a.csv", fix="add it"), "no such column\n  where: a.csv\n  fix:   add it"),
    ],
)
def test_the_message_says_what_where_and_how_to_mend_it(error, text):
    assert str(error) == text


def test_wrong_usage_exits_2_and_every_other_failure_1():
    assert {kind.__name__ for kind in KINDS if kind("x").exit_code == 2} == {"UsageError"}
    assert all(kind("x").exit_code == 1 for kind in KINDS if kind is not UsageError)


def test_damaged_bytes_are_a_failure_of_the_store():
    with pytest.raises(StoreError):
        raise DigestError("differs")


def test_the_table_of_kinds_is_complete():
    def below(kind):
        return {kind}.union(*map(below, kind.__subclasses__()))

    assert {kind for kind in below(FoveaError) if kind.__module__ == "schemas.errors"} == set(KINDS)
