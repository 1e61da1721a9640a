"""Why the rows of a build were rejected, counted over its work shards before anything is published."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.adapters.work import Receipt
from schemas.storage import Folder


def rejected_by_class(where: Folder | Path, receipts: Sequence[Receipt]) -> Counter[str]:
    """Rejects per error class."""
    store, counts = Folder.of(where), Counter[str]()
    for receipt in receipts:
        for file in receipt.files:
            if file.table == "rejects":
                counts.update(pq.read_table(store.fetch(file), columns=["error_class"]).column(0).to_pylist())
    return counts
