"""The process that runs the SQL console's queries. Started by `sandbox.py` as a script, killed by it at will.

It imports nothing but DuckDB. What a query may do is bounded five times over: it must be one SELECT, down to its
innermost part; it may name only the public tables and a few functions; DuckDB may read only the lab home's runs,
notes and votes, and its settings are locked; the process may write no file; and the process can be killed.

Talks JSON lines: {"set_up": [statements], "runs": [rows]} and {"sql": ..., "max_rows": ..., "max_cell": ...} in, one
answer per line out.
"""

import json
import math
import os
import queue
import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import duckdb

SETTINGS = (
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET parquet_metadata_cache = true",
    "SET enable_progress_bar = false",
    "SET allow_community_extensions = false",
    "SET allowed_directories = ['runs', 'notes', 'playground']",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
FORBIDDEN = frozenset(
    {"current_setting", "getvariable", "getenv", "write_log", "nextval", "setval", "currval", "query"}
)
# In DuckDB 2 a WITH may hold INSERT, UPDATE, DELETE and even COPY TO; those are nodes of other types.
READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ ]*")
NUMBERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
NESTED = ("STRUCT", "MAP", "UNION", "JSON")
LONGEST_ANSWER = 20_000_000  # characters of text
# What a torn part ends in; some of its damage DuckDB reports as a bare duckdb.Error.
UNREADABLE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)
EXACT = 2**53  # larger whole numbers lose digits in JSON readers that use doubles


def damage(error: duckdb.Error) -> bool:
    """Whether a file that cannot be read may be the reason."""
    return isinstance(error, UNREADABLE) or type(error) is duckdb.Error


class Refused(Exception):
    """The statement is not one the console runs."""


def check(connection: duckdb.DuckDBPyConnection, sql: str, public: frozenset[str]) -> str:
    """The one SELECT that `sql` is, without what follows it. Raises Refused, or duckdb's own error for bad syntax."""
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise Refused(
            f"{len(statements)} statements: give exactly one SELECT" if statements else "there is no statement"
        )
    if statements[0].type.name != "SELECT":
        raise Refused(f"{statements[0].type.name} is refused: the console only reads; give one SELECT")
    (found,) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone() or ("{}",)
    tree = json.loads(found)
    if tree.get("error", True):
        raise Refused("this kind of SELECT is not supported here (a PIVOT needs its values listed: ON x IN (...))")
    _check_names(tree, public)
    return _without_end(sql)


def _check_names(tree: Any, public: frozenset[str]) -> None:
    nodes = list(_nodes(tree))
    with_names = {item["key"] for node in nodes for item in (node.get("cte_map") or {}).get("map") or []}
    allowed = public | {name.lower() for name in with_names if NAME.fullmatch(name)}
    for node in nodes:
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in READING:
            raise Refused("the console only reads: no INSERT, UPDATE, DELETE or COPY, inside a WITH either")
        if kind == "BASE_TABLE":
            _check_table(node, allowed, public)
        elif kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name")).lower()
            if name not in TABLE_FUNCTIONS:
                raise Refused(f"the function {name} is refused: a query reads the lab's own tables only")
        elif kind == "SHOW_REF" and not node.get("query") and node.get("table_name") != '"tables"':
            raise Refused("only SHOW TABLES, DESCRIBE and SUMMARIZE are known here")
        elif kind == "FUNCTION" and str(node.get("function_name")).lower() in FORBIDDEN:
            raise Refused(f"the function {node['function_name']} is refused")


def _check_table(node: dict[str, Any], allowed: frozenset[str], public: frozenset[str]) -> None:
    path = [str(part) for part in (node.get("qualified_name") or {}).get("path") or [node.get("table_name", "")]]
    name = path[-1].lower()
    if name not in allowed or (
        len(path) > 1 and (path[:-1] not in (["main"], ["memory", "main"]) or name not in public)
    ):
        raise Refused(f"there is no table {'.'.join(path)!r} here; the tables are {', '.join(sorted(public))}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _without_end(sql: str) -> str:
    data = sql.encode()
    ends = (place for place, _ in duckdb.tokenize(sql) if data[place : place + 1] == b";")
    return data[: next(ends, len(data))].decode()


def run(connection: duckdb.DuckDBPyConnection, sql: str, max_rows: int, max_cell: int) -> dict[str, Any]:
    """The first rows of a checked SELECT, every cell JSON and of bounded size."""
    began = time.perf_counter()
    described = connection.execute(f"DESCRIBE SELECT * FROM (\n{sql}\n)").fetchall()
    names, types = [row[0] for row in described], [row[1] for row in described]
    cells = ", ".join(_cell(place, kind, max_cell) for place, kind in enumerate(types, start=1))
    result = connection.execute(f"SELECT {cells} FROM (\n{sql}\n) LIMIT {max_rows + 1}")
    rows: list[list[Any]] = []
    size, more = 0, False
    while (row := result.fetchone()) is not None and not more:
        size += sum(len(cell) for cell in row if isinstance(cell, str))
        more = len(rows) == max_rows or size > LONGEST_ANSWER
        if not more:
            rows.append([_plain(value, kind) for value, kind in zip(row, types, strict=True)])
    took = time.perf_counter() - began
    return {"columns": names, "types": types, "rows": rows, "truncated": more, "elapsed": took}


def _cell(place: int, kind: str, longest: int) -> str:
    if kind in NUMBERS or kind in {"BOOLEAN", "DOUBLE", "FLOAT"}:
        return f"#{place}"
    if kind.startswith("DECIMAL") and not _is_nested(kind):
        return f"CAST(#{place} AS DOUBLE)"
    text = f"to_json(#{place})" if _is_nested(kind) else f"#{place}"
    text = f"CAST({text} AS VARCHAR)"
    return f"CASE WHEN length({text}) > {longest} THEN left({text}, {longest}) || '…' ELSE {text} END"


def _plain(value: Any, kind: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)  # "NaN", "Infinity", "-Infinity"
    if isinstance(value, int) and abs(value) > EXACT:
        return str(value)
    if isinstance(value, str) and _is_nested(kind):
        try:
            return json.loads(value, parse_constant=str)
        except ValueError:
            return value  # cut short
    return value


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(NESTED)


def _readable(error: BaseException) -> str:
    # What was given stands on the second line of what is run.
    text = str(error) or type(error).__name__
    return re.sub(r"LINE (\d+):", lambda found: f"LINE {max(1, int(found[1]) - 1)}:", text)


def bound_process(memory_mb: int) -> None:
    """No file can be written, no core dumped, and memory has an end even where DuckDB does not count it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = (memory_mb + 3_072) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Worker:
    """One connection, set up by the parent's first message."""

    def __init__(self, threads: int, memory_mb: int) -> None:
        self._connection = duckdb.connect()
        self._connection.execute(f"SET threads = {threads}")
        self._connection.execute(f"SET memory_limit = '{memory_mb}MiB'")
        for setting in SETTINGS:
            self._connection.execute(setting)
        self._public: frozenset[str] = frozenset()

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message; errors are answers too."""
        try:
            if "set_up" in message:
                return self._set_up(message["set_up"], message["runs"], message["public"])
            sql = check(self._connection, message["sql"], self._public)
            return run(self._connection, sql, message["max_rows"], message["max_cell"])
        except Refused as refusal:
            return {"error": str(refusal), "kind": "refused"}
        except (duckdb.OutOfMemoryException, MemoryError):
            return {"error": "the query needs more memory than the console gives it", "kind": "failed"}
        except duckdb.ParserException as error:
            return {"error": str(error), "kind": "failed"}
        except (duckdb.Error, RecursionError, ValueError, TypeError) as error:
            kind = "files" if isinstance(error, duckdb.Error) and damage(error) else "failed"
            return {"error": _readable(error), "kind": kind}

    def _set_up(self, statements: list[str], runs: list[list[Any]], public: list[str]) -> dict[str, Any]:
        for statement in statements:
            self._connection.execute(statement)
        self._connection.execute("DELETE FROM parts.runs")
        if runs:
            places = ", ".join("?" * len(runs[0]))
            self._connection.executemany(f"INSERT INTO parts.runs VALUES ({places})", runs)
        self._public = frozenset(public)
        return {"ready": True}


def main() -> None:
    threads, memory_mb = (int(argument) for argument in sys.argv[1:3])
    bound_process(memory_mb)
    worker = Worker(threads, memory_mb)
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    while True:
        reply = json.dumps(worker.answer(json.loads(messages.get())), default=str)
        sys.stdout.write(reply + "\n")
        sys.stdout.flush()


def _listen(messages: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        messages.put(line)
    os._exit(0)  # the parent is gone; a query may still be at work


if __name__ == "__main__":
    main()
