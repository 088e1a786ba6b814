"""Two files of answers to the same prompts as rows of pairs: the first file's answer is rejected, the second's chosen."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storage.importers import Block, Found, Source
from storage.importers.blocks import Rows
from synpo_lab.errors import DataError
from synpo_lab.importing.columns import Row, RowRefused

LARGEST = 512_000_000  # bytes of the first file, which is held in memory
ALONE = "the other file has no answer to this prompt"

Held = dict[str, deque[tuple[int, str, str]]]  # by prompt: (number, answer, model), in the order of the file


def joined_blocks(sources: Sequence[Source], columns: Sequence[Mapping[str, str]]) -> Iterator[Block]:
    """Rows of prompt, chosen and rejected. A prompt that stands n times in both files makes n pairs, in order.

    `columns` says of each of the two files what is taken from which of its columns.
    """
    (first, second), (theirs, ours) = sources, columns
    if first.size > LARGEST:
        raise DataError(
            f"{first.name} is larger than {LARGEST:,} bytes: it would be held in memory",
            hint="join the two files into one with the columns prompt, chosen and rejected",
        )
    held: Held = {}
    unit = "item"
    for block in first.blocks():
        unit = block.unit
        if faults := _hold(block, theirs, held):
            yield Rows(block.file, block.unit, faults)
    for block in second.blocks():
        yield Rows(block.file, block.unit, [_pair(found, ours, held) for found in block.rows()])
    left = [Found(number, None, ALONE) for answers in held.values() for number, _, _ in answers]
    if left:
        yield Rows(first.files[0].name if first.files else first.name, unit, sorted(left))


def _hold(block: Block, columns: Mapping[str, str], held: Held) -> list[Found]:
    faults = []
    for found in block.rows():
        try:
            row = _row(found, columns)
            answer = (found.number, row.text("output"), row.word("generator"))
            held.setdefault(_key(row), deque()).append(answer)
        except RowRefused as refused:
            faults.append(Found(found.number, None, refused.reason, refused.detail))
    return faults


def _pair(found: Found, columns: Mapping[str, str], held: Held) -> Found:
    try:
        row = _row(found, columns)
        better = row.text("output")
        answers = held.get(_key(row))
        if not answers:
            raise RowRefused(ALONE)
        _, worse, model = answers.popleft()
    except RowRefused as refused:
        return Found(found.number, None, refused.reason, refused.detail)
    values: dict[str, Any] = {
        name: row.value(name) for name in ("prompt", "input", "system", "source") if row.has(name)
    }
    values |= {"chosen": better, "rejected": worse, "chosen_model": row.word("generator"), "rejected_model": model}
    return Found(found.number, values)


def _row(found: Found, columns: Mapping[str, str]) -> Row:
    if found.row is None:
        raise RowRefused(found.fault, found.detail)
    return Row(found.row, columns)


def _key(row: Row) -> str:
    return f"{row.text('prompt')}\0{row.value('input') if row.has('input') else ''}"
