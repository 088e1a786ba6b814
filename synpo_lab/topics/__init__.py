"""What the prompts of a run are about: clusters with labels, a map, and how new and how alike the prompts are.

`write_topics(run)` reads a run's prompts and writes its `Topic` records, whole.
"""

from synpo_lab.topics.writing import TFIDF, TopicsMade, write_topics

__all__ = ["TFIDF", "TopicsMade", "write_topics"]
