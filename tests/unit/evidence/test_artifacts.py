"""The keys of a run's objects, and how records become artifacts and are read back."""

from __future__ import annotations

import io
import random
import tempfile
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evidence import artifacts
from tasks.evidence.artifacts import Collation, lines_of, write_parts
from tasks.evidence.compression import sha256
from tasks.evidence.layout import artifact_key, manifest_key, page_key, pages_prefix, plan_key
from tasks.reading.sealed import PartContent
from workers import exact


def test_objects_have_the_keys_of_the_storage_layout() -> None:
    run = ("acme/main", "00000007")
    page = "incidents/20260801T000000Z_20260901T000000Z.1/000100"
    assert plan_key(*run) == "acme/main/runs/00000007/plan.json"
    assert manifest_key(*run) == "acme/main/runs/00000007/manifest.json"
    assert page_key(*run, page) == f"acme/main/runs/00000007/pages/{page}.json.zst"
    assert page_key(*run, page).startswith(f"{pages_prefix(*run)}/")
    assert (
        artifact_key(*run, "users", 12) == "acme/main/runs/00000007/artifacts/users.012.jsonl.zst"
    )


def parts(found: list[bytes], most_bytes: int = 1 << 30) -> list[tuple[PartContent, bytes]]:
    """Return the entry and the content of each part."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "part"
        return [(each, path.read_bytes()) for each in write_parts(iter(found), path, most_bytes)]


def check_part(content: PartContent, blob: bytes) -> list[bytes]:
    found = [line + b"\n" for line in lines_of(iter([blob]))]
    assert content == PartContent(
        bytes=len(blob),
        sha256=sha256(blob),
        content_sha256=sha256(b"".join(found)),
        records=len(found),
    )
    return found


LINES = st.lists(st.text(max_size=30).map(lambda text: exact.dumps(text) + b"\n"), max_size=30)


@given(LINES)
def test_lines_written_are_read_back(found: list[bytes]) -> None:
    ((content, blob),) = parts(found)
    assert check_part(content, blob) == found
    assert parts(found) == parts(found), "the same lines give the same object"


@pytest.mark.parametrize("count", range(6))
def test_a_full_part_is_followed_by_another_one_only_if_there_are_more_lines(count: int) -> None:
    dice = random.Random(1)
    found = [exact.dumps(dice.randbytes(300_000).hex()) + b"\n" for _ in range(count)]
    written = parts(found, most_bytes=200_000)
    assert [line for content, blob in written for line in check_part(content, blob)] == found
    assert [content.records for content, _ in written] == ([1] * count or [0])


@given(LINES, st.integers(1, 7))
def test_lines_are_read_from_chunks_of_any_size(found: list[bytes], size: int) -> None:
    ((_, blob),) = parts(found)
    chunks = (blob[i : i + size] for i in range(0, len(blob), size))
    assert [line + b"\n" for line in lines_of(chunks)] == found


def test_an_artifact_that_is_cut_or_too_long_is_refused() -> None:
    ((_, blob),) = parts([b'{"id":"A"}\n', b'{"id":"B"}\n'])
    for damaged in (*(blob[:n] for n in range(len(blob))), blob + b"x", blob + blob):
        with pytest.raises(ValueError, match="cut"):
            list(lines_of(iter([damaged])))


def test_an_artifact_that_ends_in_the_middle_of_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="middle"):
        list(lines_of(iter([zstandard.compress(b"whole\nhalf")])))
    with pytest.raises(zstandard.ZstdError):
        list(lines_of(iter([b"no artifact"])))
    with pytest.raises(zstandard.ZstdError):
        list(lines_of(iter([zstandard.compress(b"a\n"), zstandard.compress(b"b\n")])))


SIGHTINGS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("ABCDEF"), st.integers(0, 5)), max_size=8), st.booleans()
    ),
    max_size=8,
)


@pytest.mark.parametrize("known", [0, 1, 3, 1 << 16])
@given(passes=SIGHTINGS)
@settings(max_examples=200)
def test_the_newest_sighting_of_each_record_is_kept_from_the_passes_that_count(
    known: int, passes: list[tuple[list[tuple[str, int]], bool]]
) -> None:
    """It makes no difference how many records are known in memory: the rest waits in files."""
    with patch.object(artifacts, "_MOST_KNOWN", known):
        check_newest(passes)


def check_newest(passes: list[tuple[list[tuple[str, int]], bool]]) -> None:
    collation, number, counted = Collation(io.BytesIO(), io.BytesIO), 0, 0
    kept: dict[str, tuple[int, int, bytes]] = {}
    for sightings, counts in passes:
        for key, at_ in sightings:
            number += 1
            line = f'{{"id":"{key}","n":{number}}}\n'.encode()
            collation.add(key, str(at_), line)
            if counts and (key not in kept or kept[key][0] <= at_):
                kept[key] = (at_, number, line)
        collation.end_pass(counts=counts)
        counted += len(sightings) if counts else 0
    in_order = [line for _, _, line in sorted(kept.values(), key=lambda each: each[1])]
    assert list(collation.lines()) == in_order
    assert (collation.records, collation.sightings) == (len(kept), counted)
    assert list(collation.lines()) == in_order, "it can be read again"


def test_a_superseded_pass_takes_no_memory() -> None:
    spool = io.BytesIO()
    collation = Collation(spool, io.BytesIO)
    collation.add("A", "1", b"first\n")
    collation.end_pass(counts=True)
    for _ in range(3):
        collation.add("A", "2", b"again\n" * 1000)
        collation.end_pass(counts=False)
    assert spool.getvalue() == b"first\n"


def test_four_times_the_records_take_the_same_memory(tmp_path: Path) -> None:
    """Each takes one bit more, and the rest waits in files."""
    peaks = []
    for count in (100_000, 400_000):
        with ExitStack() as files:
            spools = (
                files.enter_context((tmp_path / f"{count}.{n}").open("w+b")) for n in range(2)
            )
            tracemalloc.start()
            collation = Collation(next(spools), lambda spools=spools: next(spools))
            for number in range(count):
                collation.add(f"P{number}", "2026-01-01T00:00:00.000000Z", b"{}\n")
                if number % 1_000 == 999:
                    collation.end_pass(counts=True)
            assert collation.records == sum(1 for _ in collation.lines()) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
