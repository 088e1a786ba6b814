"""The error tree.

LabError
├── ConfigError        a config key, value or combination is wrong
├── DataError          a file the user gave cannot be read as what it should be
├── ModelError         a model folder or tokenizer cannot be used
├── EngineError        generation failed
├── TrainingError      training failed (diverged, out of memory)
├── StorageError       the lab home cannot be read or written
├── QueryError         a SQL statement was refused or failed
├── PublishingError    the Hub cannot be reached, or refuses an upload
├── RunError           a run cannot be started, stopped, resumed or found
└── MissingExtra       an optional package is not installed

Every message says what happened and the value; `hint` is the exact next action. The command line prints both and exits
with code 2; a page shows both. Neither prints a traceback for a LabError.
"""


class LabError(Exception):
    """Something the user can mend. `hint` says how."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ConfigError(LabError):
    """A config key, value or combination is wrong."""


class DataError(LabError):
    """A file the user gave cannot be read as what it should be."""


class ModelError(LabError):
    """A model folder or tokenizer cannot be used."""


class EngineError(LabError):
    """Generation failed."""


class TrainingError(LabError):
    """Training failed: it diverged or ran out of memory."""


class StorageError(LabError):
    """The lab home cannot be read or written."""


class QueryError(LabError):
    """A SQL statement was refused or failed."""


class PublishingError(LabError):
    """The Hub cannot be reached, or refuses an upload."""


class RunError(LabError):
    """A run cannot be started, stopped, resumed or found."""


class MissingExtra(LabError):
    """An optional package is not installed."""
