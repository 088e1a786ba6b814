"""Files the user brings, as rows with their line numbers: JSONL, JSON, CSV, Parquet, `datasets` folders, the Hub.

What the columns mean is not known here; a row that cannot be read says why, and reading goes on behind it.
"""

from storage.importers.blocks import LONGEST_ROW, Block, Found
from storage.importers.source import Source, open_source

__all__ = ["LONGEST_ROW", "Block", "Found", "Source", "open_source"]
