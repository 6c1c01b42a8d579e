"""`BinaryPlugin`: the binary format as a plugin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.binary import column_reader, column_writer, record_reader, record_writer
from pecs_np.persistence.binary.blocks import Budget, Expanded
from pecs_np.persistence.binary.framing import VERSION, save_id_in
from pecs_np.persistence.binary.header import MAGIC, VERSIONS, read_header, read_start
from pecs_np.persistence.binary.shapes import recall
from pecs_np.persistence.binary.sources import BytesSource, FileSource, Source, StreamSource
from pecs_np.persistence.compression import CompressionType, Packing, usable_cores
from pecs_np.persistence.consistency import check_current, check_snapshot
from pecs_np.persistence.disk import PathLike
from pecs_np.persistence.files import checked_flag
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits, too_little_memory
from pecs_np.persistence.plugins import PersistencePlugin

__all__ = ["BinaryPlugin"]

# Of what is converted and compressed for a stream, bytes that stay in memory until they are written.
_KEPT_FOR_STREAMS = 4 << 20


class BinaryPlugin(PersistencePlugin):
    """The binary format. Version 2, whole columns, is the default, and the fastest.

    Both versions are read, whatever options are set.

    Parameters
    ----------
    version : 1 or 2
        What to write: 1 for the entity records of the original Rust library, which hold entities and
        components and nothing else; 2 for columns.
    compression : "zstd" or "lz4", optional
        How to compress the columns of version 2.
    level : int, optional
        Of the compression: up to 22 for zstd, by default 3; up to 16 for lz4, by default 0. Negative ones
        are faster.
    shuffle : bool
        Whether to sort the bytes of numbers by significance before compressing them, and to store ids
        and offsets as differences: smaller and mostly faster.
    threads : int, optional
        How many threads compress and decompress, by default as many as there are cores, up to 8.
    checksum : "iso" or "we"
        What ends a save of version 1: CRC-64/ISO, or CRC-64/WE as the Rust library wants it.
    limits : Limits, optional
        On what a save may ask for when it is read.

    Raises
    ------
    PersistenceError
        If the options do not go together.
    PluginNotFoundError
        If the package for the compression is missing.

    Examples
    --------
    >>> import io
    >>> from pecs_np import BinaryPlugin, World
    >>> file = io.BytesIO()
    >>> BinaryPlugin().save(World(), file)
    >>> len(file.getvalue())
    264
    >>> BinaryPlugin(version=1, checksum="we").save(World(), file := io.BytesIO())
    >>> file.getvalue().hex(" ", 4)
    '50454353 01000000 00000000 00000000 00000000 00000000 7794eba4 22e88e5d'
    """

    suffixes = (".pecs",)

    def __init__(
        self,
        *,
        version: int = VERSION,
        compression: str | None = None,
        level: int | None = None,
        shuffle: bool = True,
        threads: int | None = None,
        checksum: Literal["iso", "we"] = "iso",
        limits: Limits | None = None,
    ) -> None:
        if type(version) is not int or version not in VERSIONS:
            raise PersistenceError(f"expected version 1 or 2 of the format, found {shown(version)}")
        if not isinstance(checksum, str) or checksum not in ("iso", "we"):
            raise PersistenceError(f"expected checksum 'iso' or 'we', found {shown(checksum)}")
        if version == VERSION and checksum == "we":
            raise PersistenceError(
                "expected version 1 with checksum 'we', found version 2", suggestion="pass version=1"
            )
        if version != VERSION and compression is not None:
            raise PersistenceError(
                f"expected no compression with version 1, found {shown(compression)}",
                suggestion="pass version=2",
            )
        if compression is None and level is not None:
            raise PersistenceError(
                f"expected a level only with compression, found {shown(level)}",
                suggestion='pass compression="zstd"',
            )
        self.version = version
        self.checksum = checksum
        self.limits = Limits.of(limits)
        shuffle = checked_flag(shuffle, "shuffle")
        self.packing = None if compression is None else Packing.of(compression, level, shuffle, threads)
        self._threads = usable_cores(threads)

    @classmethod
    def with_compression(cls, compression: CompressionType | str) -> Self:
        """Return the plugin that compresses columns with that codec."""
        return cls(compression=compression)

    def __repr__(self) -> str:
        packing = f", compression={str(self.packing.codec)!r}" if self.packing else ""
        return f"{type(self).__name__}(version={self.version}{packing})"

    def encode(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return *snapshot* as the buffers of a save; large columns are views of its memory."""
        return self._encode(snapshot, None)

    def encode_stream(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return *snapshot* as the buffers of a save, of which few are in memory at a time."""
        return self._encode(snapshot, _KEPT_FOR_STREAMS)

    def to_bytes(self, snapshot: Snapshot) -> bytes:
        """Return *snapshot* as one piece."""
        if self.version == VERSION:
            check_snapshot(snapshot)
            data = column_writer.to_bytes(snapshot, self.packing)
            check_current(snapshot)
            return data
        return super().to_bytes(snapshot)

    def _encode(self, snapshot: Snapshot, kept: int | None) -> Iterable[Any]:
        check_snapshot(snapshot)
        if self.version == VERSION:
            parts = column_writer.encode(snapshot, self.packing, Budget(kept))
            return Expanded(parts, save_id_in(parts[0]))
        return record_writer.encode(snapshot, self.checksum, Budget(kept))

    def decode(self, data: Any, name: str = "<bytes>") -> Snapshot:
        """Return the snapshot that *data* holds, every sum checked."""
        return self._decode(BytesSource(data, name))

    def decode_file(self, file: PathLike | InputFile) -> Snapshot:
        """Return the snapshot that a file holds, read straight into columns."""
        with InputFile.of(file) as opened:
            if opened.size is None:
                return self.decode_stream(opened)
            return self._decode(FileSource(opened, self._threads))

    def recognises(self, start: bytes) -> bool:
        """Tell whether the first bytes of a file are the magic ones."""
        return start.startswith(MAGIC)

    def decode_stream(self, reader: Any, *, to_end: bool = True) -> Snapshot:
        """Return the snapshot that *reader* gives, read straight into columns.

        Of a save of version 2 not a byte more is read than it has; unless *to_end* is unset, the stream
        must end there.
        """
        source = StreamSource(reader, self.limits)
        snapshot = self._decode(source)
        if to_end:
            source.expect_end()
        return snapshot

    def _decode(self, source: Source) -> Snapshot:
        try:
            start = read_start(source)
            if (known := recall(source, start, self.limits)) is not None:
                return column_reader.assembled(source, *known)
            header = read_header(source, self.limits, start)
            if header.version == VERSION:
                return column_reader.decode(source, header, self.limits, self._threads)
            return record_reader.decode(source, header, self.limits)
        except MemoryError:
            raise too_little_memory(source.name) from None

    def format_name(self) -> str:
        """Return ``"binary"``."""
        return "binary"

    def format_version(self) -> int:
        """Return the version that is written: 1 or 2."""
        return self.version

    def can_load_version(self, version: int) -> bool:
        """Tell whether that version of the format is read: 1 and 2 are."""
        return version in VERSIONS
