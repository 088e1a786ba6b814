"""Preference data made elsewhere: `look` says what it is and what would be refused, `converting.convert` makes it ours."""

from synpo_lab.importing.formats import FORMATS
from synpo_lab.importing.look import Look, Refusal, look

__all__ = ["FORMATS", "Look", "Refusal", "look"]
