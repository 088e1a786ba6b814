"""Dataclasses, Arrow, Parquet and DuckDB; nothing of the method and nothing of the pages."""

from storage.database import Database
from storage.errors import SQLFault, StorageFault
from storage.export import ExportReport, export
from storage.sandbox import Console, QueryResult
from storage.store import RunStore, Store

__all__ = [
    "Console",
    "Database",
    "ExportReport",
    "QueryResult",
    "RunStore",
    "SQLFault",
    "StorageFault",
    "Store",
    "export",
]
