"""Records become jsonl, csv or parquet, whole or not at all."""

import csv
import io
import os
import resource
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.cli.formats import opened, write_csv, write_jsonl, write_parquet
from workers.errors import Fault, UsageFault

LINES = [
    b'{"id":"P1","name":"caf\xc3\xa9, \\"x\\"","count":1,"open":true,"teams":[{"id":"T"}]}',
    b'{"id":"P2","name":null,"count":2.5,"open":false,"late":"=cmd()"}',
    b'{"id":"P3","name":"+1","count":null,"open":null,"teams":null,"late":"line\\nbreak"}',
]


def test_jsonl_is_the_lines_themselves() -> None:
    out = io.BytesIO()
    assert write_jsonl(LINES, out).count == 3
    assert out.getvalue() == b"\n".join(LINES) + b"\n"


def test_csv_has_every_field_and_no_formulas() -> None:
    out = io.BytesIO()
    assert write_csv(LINES, out).count == 3
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode("utf-8-sig"), newline="")))
    assert list(rows[0]) == ["id", "name", "count", "open", "teams", "late"]
    assert rows[0]["name"] == 'caf\u00e9, "x"'
    assert rows[0]["teams"] == '[{"id":"T"}]'
    assert (rows[1]["late"], rows[1]["name"], rows[1]["open"]) == ("'=cmd()", "", "false")
    assert (rows[2]["name"], rows[2]["late"]) == ("'+1", "line\nbreak")


def test_no_records_make_an_empty_table() -> None:
    out = io.BytesIO()
    assert write_csv([], out).count == 0
    assert out.getvalue() == b"\xef\xbb\xbf\r\n"


@pytest.mark.parametrize("name", ["", "file/export.csv", "none/export.csv"])
def test_a_place_where_no_file_can_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageFault, match="can't be written"), opened(Path(name)):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")  # only in the extra `parquet`
    path = tmp_path / "records.parquet"
    with opened(path) as out:
        assert write_parquet(LINES, out).count == 3
    table = parquet.read_table(path)
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "string",
        "name": "string",
        "count": "double",
        "open": "bool",
        "teams": "string",
        "late": "string",
    }
    assert table.column("count").to_pylist() == [1.0, 2.5, None]


WIDE = 123456789012345678901234567890
WIDE_LINES = [
    b'{"id":"P1","count":1,"trace":{"id":%d}}' % WIDE,
    b'{"id":"P2","count":%d}' % WIDE,
    b'{"id":"P3","count":-9223372036854775808}',
]


def test_no_digit_of_a_long_number_is_lost(tmp_path: Path) -> None:
    """Such numbers are in the events that people send: 128-bit trace ids are common."""
    out = io.BytesIO()
    write_csv(WIDE_LINES, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode("utf-8-sig"), newline="")))
    assert [row["count"] for row in rows] == ["1", str(WIDE), "-9223372036854775808"]
    assert rows[0]["trace"] == f'{{"id":{WIDE}}}'
    parquet = pytest.importorskip("pyarrow.parquet")  # only in the extra `parquet`
    path = tmp_path / "records.parquet"
    with opened(path) as file:
        write_parquet(WIDE_LINES, file)
    counts = parquet.read_table(path).column("count").to_pylist()
    assert counts == ["1", str(WIDE), "-9223372036854775808"]


@pytest.mark.parametrize("others", [[1.5], [1, 1.5], [1.5, 1]])
def test_a_long_number_beside_fractions_keeps_its_digits(tmp_path: Path, others: list[Any]) -> None:
    """A column of floating-point numbers would only keep 53 bits of it."""
    parquet = pytest.importorskip("pyarrow.parquet")  # only in the extra `parquet`
    path = tmp_path / "records.parquet"
    values = [*others, 2**53 + 1]
    with opened(path) as file:
        write_parquet([orjson.dumps({"id": "P", "count": value}) for value in values], file)
    assert parquet.read_table(path).column("count").to_pylist() == [str(each) for each in values]


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("old")

    def write_half() -> None:
        with opened(path) as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="can't be written"), opened(tmp_path / "no" / "x"):
        pass


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, write: Any) -> None:
    """The test limits the size of the file. The system refuses that in the same call as a full disk."""
    rows = (
        orjson.dumps({"id": f"{number}", "text": os.urandom(500).hex()}) for number in range(200)
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(Fault, match="make room"), opened(tmp_path / "out") as out:
            write(rows, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
