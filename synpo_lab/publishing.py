"""Pairs to a dataset repository of the Hugging Face Hub, with a card that says what they are."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from storage import Database
from storage.export import export
from storage.queries.pair_query import PairQuery
from synpo_lab.errors import ConfigError, PublishingError

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True, slots=True)
class Published:
    url: str
    rows: int
    flattened: int = 0  # prompts that are conversations, and stand there as one text


def publish(
    database: Database,
    run_id: str,
    repository: str,
    *,
    query: PairQuery | None = None,
    kept: bool = True,
    chat: bool = False,
    public: bool = False,
) -> Published:
    """Upload a run's pairs as a dataset folder to OWNER/NAME, made (private unless said) when it is not there.

    The token is the one `hf auth login` keeps, or $HF_TOKEN. ConfigError for a name that names no repository,
    PublishingError when the Hub cannot be reached or refuses; the lab is as it was.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ConfigError(f"{repository!r} names no repository", hint="write it as hub:OWNER/NAME")
    with tempfile.TemporaryDirectory() as folder:
        made = export(database, run_id, Path(folder) / "dataset", "datasets", kept, query=query, chat=chat)
        return Published(_upload(made.path, repository, public), made.rows, made.flattened)


def _upload(folder: Path, repository: str, public: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of whichever httpx it uses
        HfHubHTTPError,
        HTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    hub = HfApi(library_name="synpo-lab")
    try:
        url = hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        hub.upload_folder(
            repo_id=repository, repo_type="dataset", folder_path=folder, commit_message="Pairs from SynPO Lab"
        )
    except OfflineModeIsEnabled:
        raise PublishingError("the Hub is switched off here", hint="unset HF_HUB_OFFLINE to upload") from None
    except LocalTokenNotFoundError:
        raise PublishingError("nobody is logged in to the Hub", hint="run `hf auth login` first") from None
    except HfHubHTTPError as error:
        raise PublishingError(
            f"the Hub refused: {error}",
            hint="is the name yours, are you logged in (`hf auth login`), and may the token write?",
        ) from None
    except (HTTPError, OSError) as error:
        raise PublishingError(
            f"the Hub cannot be reached: {error}", hint="look at the network, then try again"
        ) from None
    return str(url)
