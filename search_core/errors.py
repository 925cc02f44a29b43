"""Every error this project raises on purpose.

::

    SearchError                  something a person can act on: one clear line
    ├── UsageError               wrong use of a command, a setting or an argument
    │   └── InvalidRequestError    a request that does not fit its model (has `fields`)
    ├── QueryError               a query that cannot be answered as asked
    │   └── FetchError           the picture behind a URL cannot be had
    ├── ImageError               bytes that are no usable picture (has a `reason`)
    ├── SourceError              a folder, file or list that cannot be indexed
    ├── ModelError               a model that is unknown or cannot be loaded
    ├── NotFoundError            an id or collection that does not exist
    │   ├── NothingPublishedError  no index has finished yet
    │   └── CollectionGoneError  a collection that was dropped under a request
    ├── ModelMismatchError       a collection made by another model than the one at hand
    ├── StoreError               the vector store refuses or fails
    │   ├── StoreLockedError     another process holds it
    │   └── StoreUnavailableError  it does not answer
    ├── RunError                 an index run that has lost one of its processes
    ├── GateError                a new collection that is not good enough to be published
    ├── ResourceError            a machine or cluster without the CPUs or GPUs that are asked for
    ├── StartError               the servers cannot start
    └── OverloadedError          too much work at once: try again later

All of them survive pickling, since Ray carries them between processes.
"""

from __future__ import annotations

from collections.abc import Sequence


class SearchError(Exception):
    """Base of all: `str(error)` is one line that says what is wrong and what to do."""


class UsageError(SearchError):
    """Wrong use of a command, a setting or an argument."""


class InvalidRequestError(UsageError):
    """A request that does not fit its model.

    `fields` says what is wrong, each as (words, JSON pointer into the body or None, query parameter or None).
    """

    def __init__(self, message: str, fields: Sequence[tuple[str, str | None, str | None]] = ()) -> None:
        super().__init__(message, tuple(fields))
        self.message = message
        self.fields = tuple(fields)

    def __str__(self) -> str:
        return self.message


class QueryError(SearchError):
    """A query that cannot be answered as asked."""


class FetchError(QueryError):
    """The picture behind a URL cannot be had.

    `reason` is one of an `ImageError`'s. `passing` says that another attempt may succeed, `retry_after_s` how long the
    server asks to wait for it.
    """

    def __init__(
        self,
        message: str,
        reason: str = "unreachable",
        passing: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, reason, passing, retry_after_s)
        self.message = message
        self.reason = reason
        self.passing = passing
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class ImageError(SearchError):
    """Bytes that are no usable picture, or cannot be had.

    `reason` is one stable word for reports: empty, unreadable, truncated, too_many_bytes,
    too_many_pixels, zero_size, missing, unreachable, refused, wrong_size, wrong_md5, crashed.
    """

    NOT_HAD = frozenset({"missing", "unreachable", "refused"})
    """Reasons that say nothing of the bytes."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class SourceError(SearchError):
    """A folder, file or list that cannot be indexed."""


class ModelError(SearchError):
    """A model that is unknown or cannot be loaded."""


class NotFoundError(SearchError):
    """An id or collection that does not exist."""


class NothingPublishedError(NotFoundError):
    """No collection is published yet under the name that readers use."""


class CollectionGoneError(NotFoundError):
    """A collection that was there when the request began: begin again, with another one."""


class ModelMismatchError(SearchError):
    """A collection was made by another model than the one at hand."""


class StoreError(SearchError):
    """The vector store refuses or fails."""


class StoreLockedError(StoreError):
    """Another process holds the embedded store."""


class StoreUnavailableError(StoreError):
    """The vector store does not answer."""


class RunError(SearchError):
    """An index run has lost a process that it cannot do without."""


class GateError(SearchError):
    """A new collection that is not good enough to be published; it stays beside the published one."""


class ResourceError(SearchError):
    """A machine or cluster without the CPUs or GPUs that the settings ask for."""


class StartError(SearchError):
    """The servers cannot start."""


class OverloadedError(SearchError):
    """Too much work at once: try again later."""
