"""Points as Qdrant's gRPC messages, built without a Python object for each number."""

from __future__ import annotations

from qdrant_client import grpc
from qdrant_client.conversions.conversion import RestToGrpc

from search_core.points import Batch, Vectors

PACKED_DATA = b"\x0a"
"""Tag of `DenseVector.data` (field 1, length-delimited): packed floats, which are what a float32 row has in memory."""


def upsert_request(name: str, batch: Batch) -> grpc.UpsertPoints:
    """The request that writes a batch and is answered once it is applied."""
    points = [
        grpc.PointStruct(
            id=grpc.PointId(uuid=id), vectors=vector, payload=RestToGrpc.convert_payload(payload)
        )
        for id, vector, payload in zip(batch.ids, _vectors(batch.vectors), batch.payloads, strict=True)
    ]
    return grpc.UpsertPoints(collection_name=name, wait=True, points=points)


def _vectors(vectors: Vectors) -> list[grpc.Vectors]:
    """A message for each row of float32 [n, dim]."""
    rows = vectors.astype("<f4", order="C", copy=False)
    head = PACKED_DATA + _varint(rows.shape[1] * rows.itemsize)
    return [
        grpc.Vectors(vector=grpc.Vector(dense=grpc.DenseVector.FromString(head + row.tobytes())))
        for row in rows
    ]


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, lowest first."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
