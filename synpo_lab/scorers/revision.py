"""The files of scorer.revision, for an engine: it knows a model by its place alone."""

from pathlib import Path

from synpo_lab.config import ScorerConfig
from synpo_lab.origins import HUB
from synpo_lab.scorers.identity import where

OTHER_FORMS = ("*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.pth", "original/*")  # the same weights once more


def at_revision(config: ScorerConfig) -> str:
    """Where scorer.model is as scorer.revision has it: a folder, or its name where no revision of the Hub is asked for.

    Raises ModelError when that cannot be fetched.
    """
    name = where(config)
    if config.revision is None or not name.startswith(HUB):
        return name
    folder = _fetched(name, config.revision, "*.bin")
    return folder if any(Path(folder).glob("*.safetensors")) else _fetched(name, config.revision)


def _fetched(name: str, revision: str, *but: str) -> str:
    from huggingface_hub import snapshot_download

    from synpo_lab.scorers.loading import loading  # loads transformers, which only a revision needs here

    left = [*OTHER_FORMS, *but]
    folder: str = loading(
        name, lambda: snapshot_download(name.removeprefix(HUB), revision=revision, ignore_patterns=left)
    )
    return folder
