"""Uploads, against a small server that speaks as much of the Hub's protocol as an upload needs, and refuses like it."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from storage import Database, Store
from synpo_lab.errors import ConfigError
from synpo_lab.publishing import publish
from synpo_lab.records import Pair

TinyStore = Callable[..., Store]


class Hub(ThreadingHTTPServer):
    """Remembers what was asked of it. With `refuses`, answers every request with that status."""

    def __init__(self, refuses: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuses = refuses
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.refuses:
            return self._answer({"error": "You don't have the rights"}, self.server.refuses)
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self._answer({"url": f"{self.server.address}/datasets/me/pairs", "name": "me/pairs"})
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            return self._answer(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
            )
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        url = f"{self.server.address}/datasets/me/pairs/commit/0"
        return self._answer({"commitUrl": url, "commitOid": "0" * 40, "success": True})

    def do_GET(self) -> None:
        self._answer({"id": "me/pairs", "sha": "0" * 40, "siblings": []})

    def _answer(self, told: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *about: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tiny_store: TinyStore, small_run: list[Any]) -> Store:
    return tiny_store(small_run)


def upload(store: Store, endpoint: str, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`synpo-lab export run --to hub:me/pairs`, with the Hub at `endpoint`."""
    told = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0", "HF_HOME": str(store.home / "hf")}
    command = [sys.executable, "-m", "synpo_lab.cli", "export", "run", "--to", "hub:me/pairs", *options]
    return subprocess.run(
        [*command, "--home", str(store.home)],
        env=os.environ | told | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_private_repository_gets_the_rows_and_a_card(store: Store, hub: Hub, tmp_path: Path) -> None:
    done = upload(store, hub.address, "--json")
    assert done.returncode == 0, done.stderr
    kept = [pair for pair in store.run("run").read(Pair) if pair.kept]
    assert json.loads(done.stdout)["rows"] == len(kept)
    (asked,) = hub.created
    assert asked["type"] == "dataset"
    assert asked.get("private") is True or asked.get("visibility") == "private"
    assert set(hub.files) == {"README.md", "data/train-00000.parquet"}
    (tmp_path / "rows.parquet").write_bytes(hub.files["data/train-00000.parquet"])
    from datasets import load_dataset

    rows = load_dataset(
        "parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(rows["pair_id"]) == sorted(pair.pair_id for pair in kept)
    assert f"{len(kept)} preference pairs" in hub.files["README.md"].decode()
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_public_one_is_asked_for_in_words(store: Store, hub: Hub) -> None:
    assert upload(store, hub.address, "--public").returncode == 0
    (asked,) = hub.created
    assert asked.get("private") is not True
    assert asked.get("visibility") != "private"


@pytest.mark.parametrize(
    ("what", "said"), [("refused", "the Hub refused"), ("gone", "cannot be reached"), ("offline", "switched off")]
)
def test_a_hub_that_does_not_take_it_is_told_with_a_hint(store: Store, hub: Hub, what: str, said: str) -> None:
    hub.refuses = 403
    endpoint = "http://127.0.0.1:9" if what == "gone" else hub.address
    done = upload(store, endpoint, HF_HUB_OFFLINE="1" if what == "offline" else "0")
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_secret" not in done.stderr


@pytest.mark.parametrize("name", ["pairs", "", "../x", "a/b/c", "me/ pairs"])
def test_a_name_that_is_no_repository_is_refused(store: Store, name: str) -> None:
    database = Database(store)
    with pytest.raises(ConfigError, match="names no repository"):
        publish(database, "run", name)
    database.close()
