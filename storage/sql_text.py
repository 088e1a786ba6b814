"""What a SELECT says, read from DuckDB's own syntax tree: its tables, and the condition it puts on pairs.

Also the other way: a script that asks the same of the lab home's files in DuckDB's command line, without this program.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import duckdb

from storage import sources
from storage.catalogue import public_views
from storage.errors import SQLFault
from storage.store import Store

PAIRS = "pairs"
_HINT = "a filter is made of a query like: SELECT * FROM pairs WHERE gap > 0.3 AND len_chosen < 400"

_KEEPS_ROWS = {"ORDER_MODIFIER"}
_WORDS = {"LIMIT_MODIFIER": "LIMIT or OFFSET", "DISTINCT_MODIFIER": "DISTINCT"}


def tables_of(sql: str) -> set[str]:
    """The public tables a SELECT names, inner ones too. SQLFault when it is no SELECT."""
    named = {str(node.get("table_name", "")).lower() for node in _nodes(_tree(sql)) if node.get("type") == "BASE_TABLE"}
    return named & set(public_views())


def condition_on_pairs(sql: str) -> str:
    """The WHERE of a SELECT over `pairs` alone, as the filter's `where` takes it: bare columns, no run named.

    SQLFault when the query is of another kind, chooses among the rows by more than its WHERE, or keeps every pair.
    """
    kept = [part for part in _conditions(sql) if _run_in(part) is None]
    if not kept:
        raise SQLFault("the query has no condition on its pairs: as a filter it would keep them all", hint=_HINT)
    return _text(kept)


def run_of_query(sql: str) -> str | None:
    """The run whose pairs a SELECT over `pairs` names, as run_id = '...'; None without. SQLFault when it names two."""
    named = {run_id for part in _conditions(sql) if (run_id := _run_in(part)) is not None}
    if len(named) > 1:
        raise SQLFault("the query names two runs, and no pair is of both", hint="name one run_id, or none")
    return next(iter(named), None)


def _conditions(sql: str) -> list[dict[str, Any]]:
    """What the WHERE of a SELECT over pairs asks of each row; SQLFault where more than that chooses the rows."""
    node = _tree(sql)["statements"][0]["node"]
    source = node.get("from_table") or {}
    if node.get("type") != "SELECT_NODE" or source.get("type") != "BASE_TABLE" or source.get("table_name") != PAIRS:
        raise SQLFault("only a query over the table pairs alone can become a filter", hint=_HINT)
    if (node.get("cte_map") or {}).get("map"):
        raise SQLFault("a query with a WITH cannot become a filter", hint=_HINT)
    if node.get("group_expressions") or node.get("having") or node.get("qualify"):
        raise SQLFault("a query that groups its rows cannot become a filter", hint=_HINT)
    kinds = [kind for modifier in node.get("modifiers") or [] if (kind := modifier["type"]) not in _KEEPS_ROWS]
    if kinds:
        word = " and ".join(_WORDS.get(kind, kind) for kind in kinds)
        raise SQLFault(f"{word} cannot be part of a filter", hint=f"ask without {word}, and look whether that is meant")
    if node.get("sample") or source.get("sample") or source.get("column_name_alias"):
        raise SQLFault("a sample, or a table with renamed columns, cannot become a filter", hint=_HINT)
    return _conjuncts(node.get("where_clause"))


def duckdb_script(store: Store, runs: Sequence[sources.RunRow], sql: str) -> str:
    """Statements for DuckDB's command line, started in the lab home: the views the query needs, then the query."""
    wanted = tables_of(sql)
    needed = [text for text in sources.statements(store, relative=True) if _serves(text, wanted)]
    rows = [f"INSERT INTO parts.runs VALUES ({_values(row)})" for row in runs] if "runs" in wanted else []
    made = [text for text in needed if not text.startswith("CREATE OR REPLACE VIEW runs")]
    views = [text for text in needed if text.startswith("CREATE OR REPLACE VIEW runs")]
    return ";\n".join([*made, *rows, *views, sql.strip().rstrip(";")]) + ";\n"


def _tree(sql: str) -> Mapping[str, Any]:
    with duckdb.connect() as connection:
        (found,) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone() or ("{}",)
    tree: Mapping[str, Any] = json.loads(found)
    if tree.get("error", True) or len(tree["statements"]) != 1:
        raise SQLFault(str(tree.get("error_message") or "this is not one SELECT"), hint="give exactly one SELECT")
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _conjuncts(condition: Any) -> list[dict[str, Any]]:
    if condition is None:
        return []
    if condition.get("type") == "CONJUNCTION_AND":
        return [part for child in condition["children"] for part in _conjuncts(child)]
    return [condition]


def _run_in(part: Mapping[str, Any]) -> str | None:
    """The run that a condition run_id = '...' names."""
    sides = [part.get("left") or {}, part.get("right") or {}]
    columns = [side["column_names"][-1].lower() for side in sides if side.get("column_names")]
    values = [side["literal"] for side in sides if side.get("type") == "VALUE_CONSTANT"]
    if part.get("type") != "COMPARE_EQUAL" or columns != ["run_id"] or not values:
        return None
    return str(values[0]["text"])


def _text(conditions: Sequence[dict[str, Any]]) -> str:
    for node in _nodes(list(conditions)):
        if node.get("column_names"):
            node["column_names"] = node["column_names"][-1:]  # without the table's alias
    head = "SELECT 1 FROM pairs WHERE "
    tree = json.loads(json.dumps(_tree(f"{head}true")))
    joined = conditions[0] if len(conditions) == 1 else _all_of(conditions)
    tree["statements"][0]["node"]["where_clause"] = joined
    with duckdb.connect() as connection:
        (text,) = connection.execute("SELECT json_deserialize_sql($tree)", {"tree": json.dumps(tree)}).fetchone() or (
            "",
        )
    return str(text).removeprefix(head)


def _all_of(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    made = json.loads(json.dumps(_tree("SELECT 1 FROM pairs WHERE true AND false")))
    whole: dict[str, Any] = made["statements"][0]["node"]["where_clause"]
    return whole | {"children": list(conditions)}


def _serves(statement: str, wanted: set[str]) -> bool:
    """Whether a statement of `sources.statements` makes one of these tables, or the schema they stand in."""
    first = statement.split(" AS", 1)[0].split()
    name = first[-1].removeprefix("parts.").split("(")[0] if first[2:3] == ["REPLACE"] else ""
    if statement.startswith("CREATE TABLE IF NOT EXISTS parts.runs"):
        return "runs" in wanted
    return name in wanted if name else True


def _values(row: sources.RunRow) -> str:
    return ", ".join(_literal(value) for value in astuple(row))


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''").replace("\0", "") + "'"
    return repr(value)
