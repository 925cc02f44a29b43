"""What the settings mean to a Qdrant server: how a collection is made, what of it is indexed, how it is searched."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS
from search_core.settings import QdrantSettings
from search_core.store import USUAL, Effort

DEFERRED_THRESHOLD_KB = 0
"""The indexing threshold of a collection that is being loaded: nothing is indexed."""


def creation(settings: QdrantSettings, dim: int) -> dict[str, Any]:
    """Arguments of `create_collection` for vectors of `dim` numbers; HNSW is not built yet."""
    return {
        "vectors_config": models.VectorParams(
            size=dim, distance=models.Distance.COSINE, on_disk=settings.vectors_on_disk or None
        ),
        "shard_number": settings.shards or None,
        "replication_factor": settings.replicas,
        "write_consistency_factor": settings.write_consistency,
        "on_disk_payload": settings.payload_on_disk,
        "hnsw_config": models.HnswConfigDiff(m=settings.hnsw_m, ef_construct=settings.hnsw_ef_construct),
        "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=DEFERRED_THRESHOLD_KB),
        "quantization_config": _quantization(settings),
    }


def payload_indexes(settings: QdrantSettings) -> dict[str, models.PayloadSchemaType]:
    """The payload fields to index and their kinds."""
    return {
        **dict.fromkeys(KEYWORD_FIELDS, models.PayloadSchemaType.KEYWORD),
        **dict.fromkeys(INTEGER_FIELDS, models.PayloadSchemaType.INTEGER),
        **{name: models.PayloadSchemaType(kind) for name, kind in settings.index_kinds.items()},
    }


def search_params(settings: QdrantSettings, effort: Effort = USUAL, *, exact: bool) -> models.SearchParams:
    """How one query searches; an exact one reads neither the graph nor quantized vectors."""
    if exact:
        return models.SearchParams(exact=True)
    quantization = None
    if settings.quantization != "none":
        quantization = models.QuantizationSearchParams(
            rescore=settings.rescore, oversampling=effort.oversampling or settings.oversampling
        )
    return models.SearchParams(hnsw_ef=effort.hnsw_ef or settings.hnsw_ef, quantization=quantization)


def _quantization(settings: QdrantSettings) -> models.QuantizationConfig | None:
    always_ram = settings.always_ram
    match settings.quantization:
        case "int8":
            scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=always_ram)
            return models.ScalarQuantization(scalar=scalar)
        case "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=always_ram))
        case "product":
            product = models.ProductQuantizationConfig(
                compression=models.CompressionRatio.X16, always_ram=always_ram
            )
            return models.ProductQuantization(product=product)
        case _:
            return None
