"""Object stores through pyarrow: which file system an address means.

Keys are taken as they are, without percent-decoding. Credentials come from where pyarrow looks for them: the AWS
environment variables and files, and Google's application default credentials.
"""

from __future__ import annotations

import functools
from datetime import timedelta

import pyarrow as pa
from pyarrow import fs

from search_core.settings import SourceSettings

SCHEMES = frozenset({"s3", "gs"})
STORE_ERRORS = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises where a store or a file in it fails."""


def is_object(uri: str) -> bool:
    """Whether an address is one of an object store."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme in SCHEMES


def bucket_and_key(uri: str) -> tuple[str, str, str]:
    """The scheme, bucket and key of an address."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def open_filesystem(uri: str, settings: SourceSettings) -> tuple[fs.FileSystem, str]:
    """The file system that holds an object, and the object's path in it.

    Raises:
        ValueError: an address of another kind.
        OSError: the store does not say in which region the bucket is.
    """
    scheme, bucket, key = bucket_and_key(uri)
    if scheme not in SCHEMES or not bucket:
        raise ValueError("not an address of an object store")
    filesystem = _s3(bucket, settings) if scheme == "s3" else _gs(settings)
    return filesystem, f"{bucket}/{key}".rstrip("/")


@functools.lru_cache(maxsize=32)
def _s3(bucket: str, settings: SourceSettings) -> fs.S3FileSystem:
    scheme, _, host = (settings.s3_endpoint or "").rpartition("://")
    region = settings.s3_region
    if region is None and not host:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        anonymous=settings.anonymous,
        region=region,
        endpoint_override=host.rstrip("/") or None,
        scheme=scheme or None,
        request_timeout=settings.timeout_s,
        connect_timeout=settings.timeout_s,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=settings.retries + 1),
    )


@functools.lru_cache(maxsize=4)
def _gs(settings: SourceSettings) -> fs.GcsFileSystem:
    patience = timedelta(seconds=settings.timeout_s * (settings.retries + 1))  # its own is 15 minutes
    return fs.GcsFileSystem(anonymous=settings.anonymous, retry_time_limit=patience)
