"""What came of a search build, counted in the store: stops, distinct variants per question, expert calls, reasons.

Rows are read some at a time, and of a call 8 bytes are kept, so that a large slice is counted in little memory.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.experts import NOT_RECORDED
from schemas.reader import Snapshot, Store

COLUMNS = ["question_id", "origin", "stop_reason", "step_call_id"]
ROWS_AT_ONCE = 8192


def counts(store: Store, key: str) -> dict[str, Any]:
    """Of one slice; ablations count nowhere. No two questions share a call: its id is a hash of the question's too."""
    stops, variants = Counter[str](), Counter[str]()
    plain, further = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for rows in _rows(store.snapshot(), key):
        grn, cvs = (rows.filter(pc.equal(rows["origin"], origin)) for origin in ("grn", "cvs"))
        stops.update([*grn["stop_reason"].to_pylist(), *cvs["stop_reason"].to_pylist()])
        variants.update(dict.fromkeys(grn["question_id"].to_pylist(), 0))
        variants.update(cvs["question_id"].to_pylist())
        plain.append(_calls(grn))
        further.append(_calls(cvs))
    n_plain, n_all = (len(np.unique(np.concatenate(calls))) for calls in (plain, plain + further))
    histogram = Counter(variants.values())
    return {
        "stop_reasons": dict(sorted(stops.items())),
        "cvs_variants_per_question": {str(n): histogram[n] for n in sorted(histogram)},
        "expert_calls": {"grn": n_plain, "grn_and_cvs": n_all, "ratio": _ratio(n_all, n_plain)},
    }


def _rows(snapshot: Snapshot, key: str) -> Iterator[pa.RecordBatch]:
    for part in snapshot.parts("trajectories", slices=[key]):
        yield from pq.ParquetFile(snapshot.verified(part)).iter_batches(ROWS_AT_ONCE, columns=COLUMNS)


def _calls(rows: pa.RecordBatch) -> np.ndarray:
    """The first 8 of the 32 bytes of each call id that the steps name, once each."""
    named = pc.utf8_slice_codeunits(pc.list_flatten(rows["step_call_id"]).drop_null(), 0, 16)
    return np.unique(np.frombuffer(bytes.fromhex("".join(named.to_pylist())), ">u8"))


def n_not_recorded(store: Store, key: str) -> int:
    """Questions of a replay that need calls beyond the recorded ones."""
    reasons = store.snapshot().read("rejects", slices=[key], columns=["error_class"])
    return reasons["error_class"].to_pylist().count(NOT_RECORDED)


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None
