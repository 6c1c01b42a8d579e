"""Entities in an LMDB file: a sorted map in memory that all processes share, fast to read.

The file holds three databases: ``entities``, of records under stable ids as big-endian bytes, ``layouts``,
of documents under their ids, and ``store``, with the version of the schema.

LMDB allows a file to be open once in a process, so all stores of one file share one `Environment`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
)
from pecs_np.messages import shown
from pecs_np.persistence.disk import PathLike
from pecs_np.persistence.stores.file_store import FileStore
from pecs_np.persistence.stores.lmdb_environment import DATABASES, Environment, Work
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.store import SCHEMA_VERSION

__all__ = ["LmdbEntityPlugin"]

Result = TypeVar("Result")

_VERSION = b"version"
_SMALLEST_MAP = 1 << 20
# The last one: a page that cannot be ends its transaction.
_DAMAGE = frozenset(
    {"CorruptedError", "PageNotFoundError", "CursorFullError", "PageFullError", "BadTxnError"}
)
# By the name of the error: the errno, and what to do.
_REFUSALS: dict[str, tuple[int, str | None]] = {
    "DiskError": (errno.ENOSPC, "make room on the disk"),
    "MemoryError": (errno.ENOMEM, "the map grew beyond the memory that this process may address"),
    "ReadonlyError": (errno.EROFS, "it can only be loaded from: allow writing, or copy it"),
    "ReadersFullError": (errno.EAGAIN, "let other programs finish"),
    "PanicError": (errno.EIO, "check the disk, and try again"),
}


class LmdbEntityPlugin(FileStore):
    """Saves entities in an LMDB file; needs ``pip install pecs_np[lmdb]``.

    Several processes may have it open: one writes at a time, the others wait, and reading goes on meanwhile.
    A second file, ``-lock``, stands beside it. It belongs on a disk of this machine, not on one of the network.
    LMDB trusts its file: one that others may have written is to be checked with `verify` of a store that is
    opened on a copy.

    Parameters
    ----------
    path : path
        A file that this class made, or where there is none yet.
    map_size : int
        Bytes that the file may take before the map has to grow, which it does by itself.
    durable : bool
        Whether what was saved also survives a loss of power. Without it, the last batch may be lost then;
        each is still there whole or not at all.
    **options
        Those of `EntityStore`: ``filter``, ``unknown`` and ``limits``.

    Raises
    ------
    PluginNotFoundError
        If the package lmdb is not installed.
    InvalidFormatError
        If there is a file that this class did not make; it is left as it is.
    PersistenceIOError
        If it cannot be opened, read or written.
    """

    _environment: Environment | None = None
    _checked = False

    def __init__(
        self, path: PathLike, *, map_size: int = 64 << 20, durable: bool = True, **options: Any
    ) -> None:
        if type(map_size) is not int or not _SMALLEST_MAP <= map_size < 1 << 47:
            raise PersistenceError(
                f"expected a map_size of bytes from {_SMALLEST_MAP}, found {shown(map_size)}"
            )
        self._library = _library()
        super().__init__(path, durable=durable, **options)
        self._options["map_size"] = self._map_size = map_size
        try:
            with self._using("opening"):
                pass
        except BaseException:
            self.close()
            raise

    def backend_name(self) -> str:
        """Return ``"lmdb"``."""
        return "lmdb"

    def write(self, batch: Sequence[Records]) -> None:
        """Hold the records of *batch*, all or nothing."""
        needed = sum(records.data.nbytes + 64 * len(records.stable_ids) for records in batch)

        def put(txn: Any, environment: Environment) -> None:
            for records in batch:
                layout = records.layout
                txn.put(layout.id, layout.document, overwrite=False, db=environment.layouts)
                txn.cursor(environment.entities).putmulti(zip(records.keys(), records.values(), strict=True))

        self._carry_out("saving to", put, write=True, needed=needed)

    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""
        return self._carry_out("loading from", lambda txn, _: list(map(txn.get, keys)))

    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, all or nothing, and return how many there were."""
        return self._carry_out("deleting from", lambda txn, _: int(sum(map(txn.delete, keys))), write=True)

    def clear(self) -> None:
        """Forget all saved entities, all or nothing."""
        self._carry_out(
            "clearing", lambda txn, environment: txn.drop(environment.entities, delete=False), write=True
        )

    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys."""
        yield self._carry_out(
            "listing", lambda txn, _: self._checked_keys(txn.cursor().iternext(keys=True, values=False))
        )

    def count(self) -> int:
        """Return how many records there are."""
        return self._carry_out(
            "counting", lambda txn, environment: int(txn.stat(environment.entities)["entries"])
        )

    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of layouts."""

        def get(txn: Any, environment: Environment) -> dict[bytes, bytes]:
            found = {layout_id: txn.get(layout_id, db=environment.layouts) for layout_id in ids}
            return {layout_id: document for layout_id, document in found.items() if document is not None}

        return self._carry_out("loading from", get)

    def verify(self) -> None:
        """Read the whole file, and raise where its structure is damaged.

        Raises
        ------
        CorruptedDataError
            With what was found first.
        PluginNotFoundError
            If the package lmdb is older than 3.0, which cannot tell.
        """

        def check(_: object, environment: Environment) -> None:
            self._check_structure(environment)

        # Nobody writes meanwhile.
        self._carry_out("verifying", check, write=True)

    # The environment

    def _let_go(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.release()

    def _forget(self) -> None:
        self._environment = None
        self._checked = False

    @contextlib.contextmanager
    def _using(self, doing: str) -> Iterator[Environment]:
        """Give the environment, for one thread of the process at a time."""
        with self._in_use(), self._telling(doing):
            if self._environment is None:
                self._check_no_folder()
                self._environment = Environment.of(
                    self._library, self._path, self._map_size, durable=self._durable
                )
                self._met()
            with self._environment.lock:
                self._check_place()
                self._check_length(self._environment)
                if not self._checked or self._environment.store is None:
                    self._start(self._environment)
                yield self._environment

    def _carry_out(self, doing: str, work: Work[Result], *, write: bool = False, needed: int = 0) -> Result:
        """Return what *work* makes of a transaction, which ends with it."""
        with self._using(doing) as environment:
            result = environment.carry_out(work, write=write, needed=needed)
            if write and self._durable:
                environment.flush()
            return result

    def _start(self, environment: Environment) -> None:
        """Find the databases, or make them where there are none, and check their version."""

        def is_new(txn: Any, _: object) -> bool:
            # Without databases, this is of their names.
            names = set(txn.cursor().iternext(keys=True, values=False))
            if names and not names >= set(DATABASES):
                found = ", ".join(name.decode(errors="replace") for name in sorted(names))
                raise InvalidFormatError(
                    f"expected a store of entities, found an LMDB file with {found[:80]!r} in {self._name()}",
                    suggestion="give the store a file of its own",
                )
            return not names

        def make(txn: Any, _: object) -> None:
            # Another program may have made them meanwhile.
            if not is_new(txn, None):
                return
            txn.put(_VERSION, SCHEMA_VERSION.to_bytes(4, "little"), db=environment.find(txn))

        if environment.store is None:
            if environment.carry_out(is_new):
                environment.carry_out(make, write=True)
                if self._durable:
                    environment.flush()
            environment.find()
        version = environment.carry_out(lambda txn, _: txn.get(_VERSION, b"", db=environment.store))
        self._check_schema(int.from_bytes(version, "little"))
        self._checked = True

    def _check_length(self, environment: Environment) -> None:
        """Raise where the file is shorter than what it holds: to read beyond its end would end the process."""
        if environment.lacking() and environment.lacking() != environment.excused:
            # Pages that are free again may never have been written.
            self._check_structure(environment)
            environment.excused = environment.lacking()

    def _check_structure(self, environment: Environment) -> None:
        problems: list[str]
        try:
            from lmdb.verify import verify  # noqa: PLC0415 - an extra, and only when it is needed
        except ImportError:
            lacking = environment.lacking()
            if not lacking:
                raise PluginNotFoundError(
                    "expected lmdb.verify, found a package lmdb without it",
                    suggestion='pip install --upgrade "pecs_np[lmdb]"',
                ) from None
            problems = [f"{lacking} bytes are missing at the end"]
        else:
            problems = verify(self._path, subdir=False)  # type: ignore[no-untyped-call, unused-ignore]
        if problems:
            raise self._damaged(problems[0])

    @contextlib.contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        """Turn LMDB's errors into ours."""
        try:
            yield
        except self._library.Error as error:
            raise self._told(error, doing) from error

    def _told(self, error: Any, doing: str) -> PersistenceError:
        kind = type(error).__name__
        if kind in _DAMAGE:
            return self._damaged(str(error))
        if kind in ("InvalidError", "VersionMismatchError"):
            return InvalidFormatError(
                f"expected an LMDB file, found another as {self._name()}: {error}",
                suggestion="check the path",
            )
        if kind == "BadValsizeError":
            return LimitExceededError(
                f"expected records of less than 4 GiB, found larger ones for {self._name()}"
            )
        if kind == "PanicError" and self._environment is not None:
            # It does nothing more until it is opened again.
            self._environment.reopen()
        number, suggestion = _REFUSALS.get(kind, (None, None))
        code = getattr(error, "code", 0)
        if "already open" in str(error):
            suggestion = "close the environment that this program has opened by itself"
        return PersistenceIOError(
            f"{doing} {self._name()} failed: {error}",
            errno=number or (code if code > 0 else None),
            filename=self._path,
            suggestion=suggestion,
        )

    def _damaged(self, why: str) -> CorruptedDataError:
        return CorruptedDataError(
            f"expected a sound LMDB file, found damage in {self._name()}: {why}",
            suggestion="load a backup",
        )


def _library() -> Any:
    try:
        import lmdb  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise PluginNotFoundError(
            f"expected the package lmdb, found: {error}", suggestion="pip install 'pecs_np[lmdb]'"
        ) from error
    return lmdb
