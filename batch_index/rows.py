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
"""

from __future__ import annotations

from typing import Final

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
