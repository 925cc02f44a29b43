"""The plan of one run on disk, so that its size is bounded by the disk and not by memory.

An SQLite file that lives as long as the run: what the sources list, which pictures are to be indexed, which points
have no file any more. The driver writes it while planning; the run's coordinator reads it, shard by shard, and
notes there what only this run needs to know (`batch_index.coordinator`). It is thrown away and made anew by every
run, so it is written without any care for power cuts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

Action = Literal["added", "updated", "moved"]

SHARD_ROWS = 256
"""Least pictures of a shard, but for the last."""
MAX_SHARD_ROWS = 4096
SHARDS_IN_FLIGHT = 4
"""So many, at least, fit into the bound on work in flight: several are read at once."""
UNBOUNDED = SHARDS_IN_FLIGHT * MAX_SHARD_ROWS
MANY_SHARDS = 20_000
"""Shards grow, up to the most, before there are more of them than this: each is a task of Ray's."""
MOST_VALUES = 1000


class Task(NamedTuple):
    """A picture to index: a plain tuple, as millions of them travel between processes.

    `description` is a JSON object of captions and columns. `origin` is the id of the point whose vector it takes
    over, if the plan knows one, and `content_hash` that point's hash.
    """

    uri: str
    version: str
    size: int
    modified: str
    description: str
    expected: str
    action: Action
    origin: str = ""
    content_hash: str = ""


COLUMNS = Task._fields


class PlanFile:
    """See the module. `open` is for the coordinator; `PlanFile(path)` starts anew."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.path = path
        self._db = _connect(path)
        self._db.executescript(
            f"""
            CREATE TABLE task (row INTEGER PRIMARY KEY, together TEXT, {", ".join(COLUMNS)});
            CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE gone (id TEXT PRIMARY KEY, content_hash TEXT, size INTEGER, moved INTEGER) WITHOUT ROWID;
            CREATE TABLE shard (number INTEGER PRIMARY KEY, first INTEGER, rows INTEGER);
            """
        )

    @classmethod
    def open(cls, path: Path) -> PlanFile:
        """A finished plan."""
        plan = cls.__new__(cls)
        plan.path, plan._db = path, _connect(path)
        return plan

    @property
    def database(self) -> sqlite3.Connection:
        """The connection, for tables that only one run needs."""
        return self._db

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Many writes as one: a transaction each would cost most of the time."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes; the file stays."""
        self._db.close()

    def note_seen(self, ids: Sequence[str]) -> set[str]:
        """Notes that the sources list these ids; gives those that they had not listed before."""
        new: set[str] = set()
        for some in slices(ids):
            marks = ",".join(["(?)"] * len(some))
            rows = self._db.execute(f"INSERT OR IGNORE INTO seen VALUES {marks} RETURNING id", some)
            new.update(id for (id,) in rows)
        return new

    def unseen(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that the sources do not list."""
        missing = set(ids)
        for some in slices(ids):
            marks = ",".join("?" * len(some))
            missing.difference_update(
                id for (id,) in self._db.execute(f"SELECT id FROM seen WHERE id IN ({marks})", some)
            )
        return missing

    def add(self, tasks: Iterable[tuple[Task, str]]) -> None:
        """Adds tasks, each with the name of what it is best read together with (empty: nothing)."""
        marks = ",".join("?" * (len(COLUMNS) + 1))
        with self.writing():
            self._db.executemany(
                f"INSERT INTO task (together, {', '.join(COLUMNS)}) VALUES ({marks})",
                ((together, *task) for task, together in tasks),
            )

    def add_gone(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Adds points below the sources that have no file any more: id, content hash and size in bytes."""
        with self.writing():
            self._db.executemany("INSERT OR IGNORE INTO gone VALUES (?, ?, ?, 0)", rows)

    def perhaps_moved(self) -> Iterator[tuple[int, Task]]:
        """Added files as large as one that is gone; `moved` may be called meanwhile."""
        row = 0
        while found := self._db.execute(
            f"SELECT row, {', '.join(COLUMNS)} FROM task WHERE row > ? AND action = 'added' AND size > 0 "
            f"AND size IN (SELECT size FROM gone) ORDER BY row LIMIT {MOST_VALUES}",
            (row,),
        ).fetchall():
            for row, *values in found:
                yield row, Task._make(values)

    def moved(self, row: int, content_hash: str) -> bool:
        """Makes an added task a move, if a point with these contents is gone and has not moved elsewhere."""
        found = self._db.execute(
            "UPDATE gone SET moved = 1 WHERE id = "
            "(SELECT id FROM gone WHERE content_hash = ? AND moved = 0 LIMIT 1) RETURNING id",
            (content_hash,),
        ).fetchone()
        if found:
            self._db.execute(
                "UPDATE task SET action = 'moved', origin = ?, content_hash = ? WHERE row = ?",
                (found[0], content_hash, row),
            )
        return found is not None

    def count(self, action: Action | None = None) -> int:
        """How many tasks there are, of one action or of all."""
        where, values = ("WHERE action = ?", (action,)) if action else ("", ())
        (number,) = self._db.execute(f"SELECT count(*) FROM task {where}", values).fetchone()
        return int(number)

    def gone_count(self) -> int:
        """How many points have no file any more and did not move."""
        (number,) = self._db.execute("SELECT count(*) FROM gone WHERE moved = 0").fetchone()
        return int(number)

    def gone_ids(self) -> Iterator[list[str]]:
        """Their ids, in groups."""
        cursor = self._db.execute("SELECT id FROM gone WHERE moved = 0")
        while rows := cursor.fetchmany(MOST_VALUES):
            yield [id for (id,) in rows]

    def cut(self, max_in_flight: int = UNBOUNDED) -> int:
        """Divides the tasks into shards, keeping together what is read together; gives their number."""
        most = min(MAX_SHARD_ROWS, max(SHARD_ROWS, max_in_flight // SHARDS_IN_FLIGHT))
        shards = 0
        with self.writing():
            self._db.execute("DELETE FROM shard")
            for shards, (first, rows) in enumerate(self._pieces(most), 1):
                self._db.execute("INSERT INTO shard VALUES (?, ?, ?)", (shards - 1, first, rows))
        return shards

    def _pieces(self, most: int) -> Iterator[tuple[int, int]]:
        """First row and number of rows of each shard."""
        least = min(most, max(SHARD_ROWS, self.count() // MANY_SHARDS))
        first, rows, before = 1, 0, ""
        for row, together in self._db.execute("SELECT row, together FROM task ORDER BY row"):
            apart = not together or together != before
            if rows >= most or (rows >= least and apart):
                yield first, rows
                first, rows = row, 0
            rows, before = rows + 1, together
        if rows:
            yield first, rows

    def shard(self, number: int) -> list[tuple[int, Task]]:
        """The tasks of a shard with their rows."""
        first, rows = self._db.execute("SELECT first, rows FROM shard WHERE number = ?", (number,)).fetchone()
        found = self._db.execute(
            f"SELECT row, {', '.join(COLUMNS)} FROM task WHERE row BETWEEN ? AND ? ORDER BY row",
            (first, first + rows - 1),
        )
        return [(row, Task._make(values)) for row, *values in found]

    def keep_only(self, rows: Iterable[int], max_in_flight: int = UNBOUNDED) -> int:
        """Reduces the plan to some rows and cuts it anew; gives the number of shards."""
        columns = f"together, {', '.join(COLUMNS)}"
        with self.writing():
            self._db.execute("CREATE TEMP TABLE kept AS SELECT * FROM task WHERE false")
            for row in rows:
                self._db.execute("INSERT INTO kept SELECT * FROM task WHERE row = ?", (row,))
            self._db.execute("DELETE FROM task")
            self._db.execute(f"INSERT INTO task ({columns}) SELECT {columns} FROM kept ORDER BY row")
            self._db.execute("DROP TABLE kept")
        return self.cut(max_in_flight)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = NORMAL; PRAGMA cache_size = -64000;"
    )
    return database


def slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Groups that one statement can take as values."""
    for start in range(0, len(ids), MOST_VALUES):
        yield ids[start : start + MOST_VALUES]
