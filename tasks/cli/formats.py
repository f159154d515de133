"""Write lines of JSON as jsonl, csv or parquet, to stdout or to a file that is complete or absent."""

from __future__ import annotations

import csv
import errno
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO

from tasks.cli.spreadsheet import Sheet
from workers import exact
from workers.errors import Fault, UsageFault

_ROWS = 5_000
"""Records per parquet row group: a few MB in memory."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Written:
    """How many records were written, and sentences about values that the format could not hold."""

    count: int
    remarks: tuple[str, ...] = ()


@contextmanager
def opened(path: Path | None) -> Iterator[BinaryIO]:
    """Yield stdout, or a file that appears at *path* only if the block succeeds."""
    if path is None:
        with _room("stdout"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        with _room(str(path)), temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:
            raise
        raise UsageFault(
            f"{path} can't be written ({error.strerror}): name another file."
        ) from None
    finally:
        with suppress(OSError):  # it has its final name, or the error above matters more
            temporary.unlink()


@contextmanager
def _room(where: str) -> Iterator[None]:
    """Turn the error of a full disk into a sentence that names *where* and the temporary directory."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Fault(
            f"{where} can't be written completely ({error.strerror}): make room there and in "
            f"{tempfile.gettempdir()}, then export again."
        ) from None


def write_jsonl(lines: Iterable[bytes], out: BinaryIO, _: Sequence[str] = ()) -> Written:
    """Write one record per line, unchanged."""
    count = 0
    for count, line in enumerate(lines, 1):  # noqa: B007 - the last number is the result
        out.write(line + b"\n")
    return Written(count)


def write_csv(lines: Iterable[bytes], out: BinaryIO, _: Sequence[str] = ()) -> Written:
    """Write a table for spreadsheets: a column for every field of any record, nested values as JSON.

    Without the byte order mark, Excel reads UTF-8 as the machine's own code page. The limits of a
    cell are in `tasks.cli.spreadsheet`.
    """
    sheet = Sheet()
    with tempfile.TemporaryFile() as spool:
        columns, count = _spooled(lines, spool)
        text = io.TextIOWrapper(out, "utf-8-sig", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow([sheet.cell("titles", name) for name in columns])
        for record in _records(spool):
            writer.writerow(sheet.row(columns, record))
        text.detach()
    return Written(count, sheet.remarks)


def write_parquet(lines: Iterable[bytes], out: BinaryIO, doubts: Sequence[str] = ()) -> Written:
    """Write a column for every field of any record, with nested values as JSON.

    The file's metadata has the *doubts* about an unverified export. The other formats hold records and nothing else.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Fault(
            "Parquet needs pyarrow, which is not installed: add it with "
            "`pip install 'pagetrail[parquet]'`, or choose --format jsonl or csv."
        ) from None
    with tempfile.TemporaryFile() as spool:
        columns, count = _spooled(lines, spool)
        types = {
            bool: pyarrow.bool_(),
            int: pyarrow.int64(),
            _Long: pyarrow.int64(),
            float: pyarrow.float64(),
        }
        fields = [(name, types.get(kind, pyarrow.string())) for name, kind in columns.items()]
        metadata = {"pagetrail.unverified": "\n".join(doubts)} if doubts else None
        schema = pyarrow.schema(fields, metadata)
        with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
            records = _records(spool)
            while batch := list(islice(records, _ROWS)):
                rows = [
                    {name: _typed(record.get(name), kind) for name, kind in columns.items()}
                    for record in batch
                ]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    return Written(count)


FORMATS: dict[str, Callable[[Iterable[bytes], BinaryIO, Sequence[str]], Written]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}


def _spooled(lines: Iterable[bytes], spool: IO[bytes]) -> tuple[dict[str, type], int]:
    """Copy *lines* into *spool*. Return the type of each field, and the number of lines."""
    columns: dict[str, type] = {}
    count = 0
    for count, line in enumerate(lines, 1):  # noqa: B007 - the last number is the result
        spool.write(line + b"\n")
        for name, value in exact.loads(line).items():
            known = columns.setdefault(name, type(None))
            if value is not None and known is not str:
                columns[name] = _common(known, _kind(value))
    spool.seek(0)
    return columns, count


class _Long(int):
    """Stands for whole numbers that a floating-point column would round."""


_WIDER = {frozenset({int, float}): float, frozenset({int, _Long}): _Long}
"""Two types -> the type of a column that holds both. For any other two types it is text."""
_TYPED = (bool, int, float, _Long)
_INTEGER_BITS = 63
"""Bits of Parquet's widest integer, without the sign."""


def _kind(value: Any) -> type:
    """Return the type of a column that can hold *value*. A number that is too wide for an integer becomes text."""
    if not isinstance(value, int) or value.bit_length() <= sys.float_info.mant_dig:
        return type(value)
    return _Long if value.bit_length() <= _INTEGER_BITS else str


def _common(known: type, found: type) -> type:
    if known in (type(None), found):
        return found if found in _TYPED else str
    return _WIDER.get(frozenset({known, found}), str)


def _records(spool: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in spool:
        yield exact.loads(line)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return exact.dumps(value).decode()


def _typed(value: Any, kind: type) -> Any:
    return value if kind in _TYPED else _text(value)
