"""Conversations: from the shapes they come in to messages, and to a text that people read."""

import json
import re
from collections.abc import Sequence
from typing import Any

from synpo_lab.importing.columns import Row, RowRefused, unpacked

Message = dict[str, str]

ROLES = {
    "human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant",
    "model": "assistant", "bot": "assistant", "chatgpt": "assistant", "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
MARKS = ('[{"role"', '[{"from"', '[{"content"', '[{"value"', '[{ "role"')
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_chat(value: Any) -> bool:
    """Whether a value is a list of messages, or one written as JSON into a cell."""
    if isinstance(value, str):
        return value.startswith(MARKS) and isinstance(unpacked(value), list)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def messages_of(row: Row, value: Any, name: str) -> list[Message]:
    """Messages with the roles system, user, assistant and tool. RowRefused when they are none."""
    items = unpacked(value)
    if not isinstance(items, list):
        raise RowRefused(f"{name!r} is not a list of messages")
    return [_message(row, item, name) for item in items]


def _message(row: Row, item: Any, name: str) -> Message:
    if not isinstance(item, dict):
        raise RowRefused(f"{name!r} holds something that is not a message")
    said = item.get("role", item.get("from"))
    role = ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        raise RowRefused(f"{name!r} holds a message without a known role", f"its role is {str(said)[:40]!r}")
    return {"role": role, "content": _content(row, item, name)}


def _content(row: Row, item: dict[str, Any], name: str) -> str:
    content = item.get("content", item.get("value"))
    if isinstance(content, list):  # parts: text and images
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type", "text") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is None and item.get("tool_calls"):
        content = json.dumps(item["tool_calls"], ensure_ascii=False, default=str)
    if content is None:
        raise RowRefused(f"{name!r} holds a message without content")
    return row.whole(content, f"{name} content")


def transcript(messages: Sequence[Message]) -> str:
    """Messages as a text for people: a single one is its content, several are told by their roles."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def stored(messages: Sequence[Message]) -> str | None:
    """The JSON a pair keeps of its prompt's messages; None where they are one user turn."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return None
    return json.dumps(list(messages), ensure_ascii=False)


def shared(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages both begin with; of two equal conversations the last message is an answer, not the prompt."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return min(same, len(one) - 1, len(other) - 1)


def turns(row: Row, text: str, name: str) -> list[Message]:
    """The turns of an HH-RLHF string: "\\n\\nHuman: ... \\n\\nAssistant: ...". RowRefused when there are none."""
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise RowRefused(f"{name!r} does not begin with 'Human:'", f"it begins with {text[:40]!r}")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[mark[1]], "content": row.whole(text[mark.end() : end].strip(), name)}
        for mark, end in zip(marks, ends, strict=True)
    ]
