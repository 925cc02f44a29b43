"""What goes to a Qdrant server, without one: messages and addresses."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from search_core.errors import StoreError
from search_core.points import Batch
from search_core.qdrant_nodes import QdrantNodes
from search_core.qdrant_points import upsert_request
from search_core.settings import StoreSettings
from tests.fixtures.stores import points_of, unit_vectors

ODD = {
    "captions": ["a", "ü"],
    "exif": {"iso": 100, "f": 1.5, "flash": None},
    "hdr": True,
    "none": [],
    "big": 2**62,
}


@pytest.mark.parametrize("dim", [1, 8, 31, 32, 512, 5000])  # a length of one, two and three bytes
def test_messages_are_those_that_the_client_makes_of_its_models(dim):
    batch = points_of(5, dim=dim)
    batch = Batch(batch.ids, batch.vectors, [{**payload, **ODD} for payload in batch.payloads])
    request = upsert_request("images", batch)
    expected = [
        RestToGrpc.convert_point_struct(models.PointStruct(id=id, vector=vector, payload=payload))
        for id, vector, payload in zip(batch.ids, batch.vectors.tolist(), batch.payloads, strict=True)
    ]
    assert list(grpc.UpsertPoints.FromString(request.SerializeToString()).points) == expected
    assert (request.collection_name, request.wait) == ("images", True)


@pytest.mark.parametrize(
    "vectors",
    [
        unit_vectors(6, 16)[::2],
        np.asfortranarray(unit_vectors(3, 16)),
        unit_vectors(3, 16).astype(">f4"),
        unit_vectors(3, 16).astype(np.float64),
    ],
    ids=["every second row", "columns first", "big-endian", "float64"],
)
def test_however_the_numbers_lie_in_memory_they_are_the_same(vectors):
    batch = points_of(3, dim=16)
    request = upsert_request("images", Batch(batch.ids, vectors, batch.payloads))
    for point, row in zip(request.points, vectors, strict=True):
        np.testing.assert_array_equal(point.vectors.vector.dense.data, row.astype(np.float32))


def test_a_batch_whose_rows_do_not_match_is_refused():
    batch = points_of(3)
    with pytest.raises(ValueError, match="zip"):
        upsert_request("images", Batch(batch.ids[:2], batch.vectors, batch.payloads))


@pytest.mark.parametrize(
    "urls",
    [
        "127.0.0.1:6333",
        "localhost",
        "ftp://127.0.0.1",
        "grpc://127.0.0.1:6334",
        "http://127.0.0.1:6333,",
        "http://127.0.0.1:6333,127.0.0.1:6335",
        "http://127.0.0.1:6333#6334",
        "http://127.0.0.1:6333#grpc=",
        "http://127.0.0.1:6333#grpc=x",
        "http://127.0.0.1:6333#rest=6334",
    ],
)
def test_a_url_that_is_none_says_the_mend(urls, tmp_path):
    with pytest.raises(
        StoreError, match=r"give one such as http://127\.0\.0\.1:6333 or http://127\.0\.0\.1:6333#grpc="
    ):
        QdrantNodes(StoreSettings(path=tmp_path, qdrant_url=urls))
