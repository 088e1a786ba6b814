"""The files and folders that a config names, wherever its reader sits."""

from pathlib import Path

from synpo_lab.config import RunConfig

# Words that name no file even where a file of that name lies about.
BUILT_IN = {"", "pocket", "seeds", "none", "plain", "fsdp", "zero2"}


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The config with its files and folders named from the root: the worker, a resume and a fork may sit elsewhere."""
    evaluation = config.evaluation.model_copy(update={"suite": _absolute(config.evaluation.suite)})
    keywords = config.keywords.model_copy(update={"source": _absolute(config.keywords.source)})
    source = config.source.model_copy(update={"paths": [_absolute(path) for path in config.source.paths]})
    training = config.training.model_copy(update={"accelerate": _absolute(config.training.accelerate)})
    models = {"model": _absolute(config.scorer.model or ""), "reference": _absolute(config.scorer.reference or "")}
    scorer = config.scorer.model_copy(update={name: path or None for name, path in models.items()})
    named = {name: _absolute(getattr(config, name)) for name in ("policy", "seeds", "chat_template")}
    sections = {"evaluation": evaluation, "keywords": keywords, "source": source, "training": training}
    return config.model_copy(update={**named, **sections, "scorer": scorer})


def _absolute(value: str) -> str:
    path = Path(value).expanduser()
    keeps = not value or value in BUILT_IN or value.startswith("hub:") or not path.exists()
    return value if keeps else str(path.absolute())
