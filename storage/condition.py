"""A condition over the columns of `pairs`, as someone typed it: checked, and written again from what was understood.

The text is hostile until shown otherwise. DuckDB parses it into a tree; every node of that tree must be of a kind that
only looks at the row (columns, constants, comparisons, conjunctions, CASE, casts, and functions of a list), and what
goes into a query is the SQL that DuckDB makes of the tree, never the text. Casts give NULL where they cannot be done.
"""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from storage.errors import StorageFault

LONGEST = 2_000  # characters
COLUMNS = {
    "iteration": "BIGINT", "pair_id": "VARCHAR", "prompt_id": "VARCHAR", "prompt": "VARCHAR", "chosen_id": "VARCHAR",
    "rejected_id": "VARCHAR", "chosen": "VARCHAR", "rejected": "VARCHAR", "chosen_score": "DOUBLE",
    "rejected_score": "DOUBLE", "gap": "DOUBLE", "len_chosen": "BIGINT", "len_rejected": "BIGINT",
    "repetition": "DOUBLE", "similarity": "DOUBLE", "duplicate": "BOOLEAN", "messages": "VARCHAR",
}  # fmt: skip  # a test holds them against the view
DECIDED = {"run_id", "kept", "drop_reason"}  # what the filter is asked of, and what it answers
# Pure, of one row, and none whose result can be much longer than what it is given.
FUNCTIONS = frozenset(
    """
    + - * / // % ** || ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape
    abs ceil ceiling exp floor greatest hash if isfinite isinf isnan least ln log log10 log2 mod pow power round sign
    sqrt trunc
    array_length contains ends_with instr lcase left len length lower ltrim position prefix regexp_extract
    regexp_full_match regexp_matches right rtrim starts_with string_split string_split_regex str_split strip_accents
    strlen strpos substr substring suffix trim ucase upper
    """.split()
)
_TYPES = {"BIGINT", "BOOLEAN", "DOUBLE", "FLOAT", "HUGEINT", "INTEGER", "VARCHAR"}
_HINT = "write one condition over the columns of `pairs`, for example: len_chosen < 800 AND prompt NOT LIKE '%poem%'"

Node = dict[str, Any]


def columns_of(text: str) -> frozenset[str]:
    """The columns a condition names. StorageFault as `condition_sql`."""
    return _understood(text)[1]


def condition_sql(text: str) -> str:
    """The condition as SQL that is true, false or NULL of each pair and does nothing else.

    Raises StorageFault when it is anything but one condition over the columns of `pairs`.
    """
    return _understood(text)[0]


@functools.lru_cache(maxsize=256)
def _understood(text: str) -> tuple[str, frozenset[str]]:
    named: set[str] = set()
    with alone() as connection:
        tree = _tree(connection, text)
        statement = tree["statements"][0]
        (expression,) = statement["node"]["select_list"]
        expression["alias"] = ""
        _check(expression, named)
        _check_rest(connection, statement, text)
        written = _value(connection, "SELECT json_deserialize_sql($tree)", tree=json.dumps(tree))
        sql = written.removeprefix("SELECT ")
        _check_type(connection, sql, text)
    return f"TRY({sql})", frozenset(named)


def _tree(connection: duckdb.DuckDBPyConnection, text: str) -> Node:
    """What DuckDB makes of `SELECT <text>`: one statement with one expression."""
    if len(text) > LONGEST:
        raise _refused(f"the condition is {len(text):,} characters long", hint=f"at most {LONGEST:,} are taken")
    if "\0" in text or not text.strip():
        raise _refused("the condition is empty" if not text.strip() else "the condition holds a NUL character")
    tree = _parsed(connection, text)
    statements = tree["statements"]
    if len(statements) != 1 or len(statements[0]["node"].get("select_list") or []) != 1:
        raise _refused(f"{_short(text)} is not one condition")
    return tree


def _check_rest(connection: duckdb.DuckDBPyConnection, statement: Node, text: str) -> None:
    """Around its expression, the statement must be what DuckDB makes of `SELECT true`: no FROM, no LIMIT, nothing."""
    (plain,) = _parsed(connection, "true")["statements"]
    node = dict(statement["node"], select_list=plain["node"]["select_list"])
    if _unplaced(dict(statement, node=node)) != _unplaced(plain):
        raise _refused(f"{_short(text)} is a query, not a condition")


def _parsed(connection: duckdb.DuckDBPyConnection, text: str) -> Node:
    try:
        found: Node = json.loads(_value(connection, "SELECT json_serialize_sql($sql)", sql=f"SELECT {text}\n"))
    except (duckdb.Error, UnicodeError) as error:
        raise _refused(f"{_short(text)} cannot be read: {_first_line(error)}") from None
    if found["error"]:
        raise _refused(f"{_short(text)} cannot be read: {_first_line(found.get('error_message', '?'))}")
    return found


def _check(node: Node, named: set[str]) -> None:
    """Raise StorageFault for a node that is not of the kinds allowed. Notes the columns named; makes casts try."""
    check = _CHECKS.get(node["class"])
    if check is None:
        raise _refused(f"{_WORDS.get(node['class'], node['class'].lower())} cannot be part of a condition")
    check(node, named)
    for child in _children(node):
        _check(child, named)


def _children(node: Node) -> Iterator[Node]:
    """The expressions directly inside a node."""
    for name, value in node.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and name not in {"type_expr", "literal", "qualified_name", "order_bys"}:
                yield from [item] if "class" in item else _children(item)


def _column(node: Node, named: set[str]) -> None:
    names = node["column_names"]
    name = names[-1].lower()
    if name in DECIDED:
        raise _refused(f"a filter cannot look at {name!r}: that is what it is asked of, or what it decides")
    if name not in COLUMNS or [part.lower() for part in names[:-1]] not in ([], ["pairs"]):
        raise _refused(f"pairs have no column {'.'.join(names)!r}", hint=f"the columns are {', '.join(COLUMNS)}")
    node["column_names"] = [name]
    named.add(name)


def _function(node: Node, named: set[str]) -> None:
    name = node["function_name"].lower()
    if name not in FUNCTIONS or node.get("schema") or node.get("catalog"):
        allowed = sorted(word for word in FUNCTIONS if word.isidentifier())
        raise _refused(f"the function {name!r} cannot be part of a condition", hint=f"these can: {', '.join(allowed)}")
    if node.get("distinct") or node.get("filter") or node["order_bys"]["orders"]:
        raise _refused(f"DISTINCT, FILTER and ORDER BY cannot go with {name!r} in a condition")


def _operator(node: Node, named: set[str]) -> None:
    if node["type"] not in {
        "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_NOT",
    }:  # fmt: skip
        raise _refused(f"{node['type'].lower().replace('_', ' ')} cannot be part of a condition")


def _cast(node: Node, named: set[str]) -> None:
    kind = node["type_expr"]
    name = str(kind.get("type_name", "")).upper()
    if name not in _TYPES or kind.get("children") or kind.get("schema") or kind.get("catalog"):
        raise _refused(
            f"a cast to {name or 'that type'} cannot be part of a condition",
            hint=f"cast to {', '.join(sorted(_TYPES))}",
        )
    node["try_cast"] = True


def _constant(node: Node, named: set[str]) -> None:
    if node["literal"]["kind"] not in {"BOOLEAN", "INTEGER", "NULL_LITERAL", "NUMERIC", "STRING"}:
        raise _refused("a condition holds numbers, texts, true, false and NULL, nothing else")


def _nothing_more(node: Node, named: set[str]) -> None:
    """Comparisons, conjunctions, BETWEEN and CASE: what stands in them is looked at by itself."""


_CHECKS: dict[str, Callable[[Node, set[str]], None]] = {
    "BETWEEN": _nothing_more,
    "CASE": _nothing_more,
    "CAST": _cast,
    "COLUMN_REF": _column,
    "COMPARISON": _nothing_more,
    "CONJUNCTION": _nothing_more,
    "CONSTANT": _constant,
    "FUNCTION": _function,
    "OPERATOR": _operator,
}
_WORDS = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "*",
    "PARAMETER": "a parameter ($name or ?)",
    "LAMBDA": "a lambda",
}


def _check_type(connection: duckdb.DuckDBPyConnection, sql: str, text: str) -> None:
    """Ask it of a row of NULLs: types that do not fit, and what is no condition, show there."""
    try:
        kind = _value(connection, f"SELECT typeof({sql}) FROM nothing")
        connection.execute(f"SELECT {sql} FROM nothing").fetchall()
    except duckdb.Error as error:
        raise _refused(f"{_short(text)} does not fit the columns of pairs: {_first_line(error)}") from None
    if kind not in {"BOOLEAN", '"NULL"'}:
        raise _refused(f"{_short(text)} is no condition: it gives {kind}, not true or false")


@contextmanager
def alone() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can reach nothing but what is put into it, with `nothing`: one pair, all NULL."""
    with duckdb.connect(config={"threads": 1}) as connection:
        declared = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE nothing ({declared})")
        connection.execute("INSERT INTO nothing DEFAULT VALUES")
        for setting in _LOCKS:
            connection.execute(setting)
        yield connection


_LOCKS = (
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)


def _value(connection: duckdb.DuckDBPyConnection, query: str, **parameters: str) -> str:
    (value,) = connection.execute(query, parameters).fetchone() or (None,)
    return str(value)


def _unplaced(node: Any) -> Any:
    """A tree without what says where in the text its nodes stood."""
    if isinstance(node, list):
        return [_unplaced(item) for item in node]
    if isinstance(node, dict):
        return {name: _unplaced(value) for name, value in node.items() if not name.startswith("query_location")}
    return node


def _refused(message: str, hint: str = _HINT) -> StorageFault:
    return StorageFault(message, hint=hint)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
