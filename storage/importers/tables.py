"""Parquet and Arrow files, a batch of rows at a time.

They are not mapped into memory: a file that is cut short while it is read would end the whole process by a signal.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import StorageFault, explained
from storage.importers.blocks import BLOCK_ROWS, Batch, Block
from storage.importers.texts import distinct

READ_AHEAD = 1 << 20


def parquet_blocks(path: Path, name: str) -> Iterator[Block]:
    """Batches of a Parquet file. StorageFault when it is not whole."""
    with explained("read", path), _open_parquet(path) as file:
        # Neither a whole row group nor a whole column of it is held: files come with a million rows in one group.
        yield from _batches(file.iter_batches(BLOCK_ROWS, use_threads=False), path, name)


def arrow_blocks(path: Path, name: str) -> Iterator[Block]:
    """Batches of an Arrow file, stream or random access: what `datasets` saves."""
    with explained("read", path), pa.OSFile(str(path)) as file:
        try:
            reader = pa.ipc.open_stream(file)
        except pa.ArrowException:
            file.seek(0)
            reader = _random_access(path, file)
        yield from _batches(_cut(reader), path, name)


def parquet_rows(path: Path) -> int:
    """How many rows a Parquet file has, told by its footer."""
    with explained("read", path), _open_parquet(path) as file:
        return int(file.metadata.num_rows)


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=False, buffer_size=READ_AHEAD, pre_buffer=False)
    except pa.ArrowException as error:
        raise _damaged(path, "Parquet", error) from None


def _random_access(path: Path, file: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowException as error:
        raise _damaged(path, "Arrow", error) from None
    return (reader.get_batch(place) for place in range(reader.num_record_batches))


def _cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of bounded size. Copied: a slice that goes to another process would take all it was cut from along."""
    for batch in batches:
        for start in range(0, batch.num_rows, BLOCK_ROWS):
            yield batch.take(pa.array(range(start, min(start + BLOCK_ROWS, batch.num_rows)), pa.int64()))


def _batches(batches: Iterator[pa.RecordBatch], path: Path, name: str) -> Iterator[Block]:
    first = 1
    try:
        for batch in batches:
            if first == 1:
                distinct(batch.schema.names, path)
            yield Batch(name, first, batch)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, path.suffix.removeprefix(".").capitalize(), error) from None


def _damaged(path: Path, kind: str, error: Exception) -> StorageFault:
    return StorageFault(f"{path} is not a whole {kind} file: {error}", hint="copy or download it again")
