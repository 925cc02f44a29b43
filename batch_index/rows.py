"""The columns that travel through the pipeline, as Arrow tables.

=============  ==============  ==================================================================================
column         type            meaning
=============  ==============  ==================================================================================
shard, row     int64           where in the plan the picture stands
id, uri        string          of the point
version        string          of the file
action         string          added, updated or moved
origin         string          id of the point that moved here, else empty
outcome        string          what is (to be) done, one of the constants below
reason, error  string          why a picture is broken, else empty
payload        string          JSON, of what is to be written
pixels         large_binary    uint8 [height, width, 3] of what is to be embedded, else empty
vector         large_binary    float32 [dim] of what is known already, else empty
text_mean      large_binary    float32 [dim] in one row of the run: the mean of its sampled captions; else empty
=============  ==============  ==================================================================================

`Prepare` gives all but `text_mean`; `EmbedAndWrite` takes those and gives `ACKNOWLEDGED`.

Between the stages a batch travels as one value of one row (`pack`). Ray Data cuts and joins rows by their bytes: a task
that it repeats after a node is lost, when some pictures are done and have no pixels any more, would give other blocks,
and rows of the lost ones would be missed or come twice. One row stays whole, and is handed on at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

EMBED: Final = "embedded"
REUSE: Final = "reused"
BROKEN: Final = "broken"
DEFERRED: Final = "deferred"
"""The same bytes are in flight: looked at once more when everything else is written."""
DONE: Final = "done"
"""Acknowledged before Ray repeated the work on it."""

PREPARED = pa.schema(
    [
        ("shard", pa.int64()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),
        ("action", pa.string()),
        ("origin", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("payload", pa.string()),
        ("pixels", pa.large_binary()),
        ("vector", pa.large_binary()),
    ]
)
ACKNOWLEDGED = pa.schema(
    [
        *(
            PREPARED.field(name)
            for name in ("shard", "row", "uri", "version", "action", "outcome", "reason", "error")
        ),
        ("text_mean", pa.large_binary()),
    ]
)
PACKED = pa.schema([("batch", pa.large_binary())])


def pack(table: pa.Table) -> pa.Table:
    """The table as the only value of a table of `PACKED`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, data.size], dtype=np.int64))
    value = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])
    return pa.Table.from_arrays([value], schema=PACKED)


def unpack(packed: pa.Table) -> pa.Table:
    """The table that was packed, without a copy of its data."""
    return pa.ipc.open_stream(packed["batch"][0].as_buffer()).read_all()
