"""A real HTTP server in this process that speaks OpenAI's chat completions over a tiny model, with faults on request."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.base import Engine, Request

Reply = Callable[["Handler", dict[str, Any]], None]


class TinyServer(ThreadingHTTPServer):
    """`faults`: what becomes of the first requests, in their order; the others get `reply`."""

    daemon_threads = True

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.faults: list[Reply] = []
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error."""


class Handler(BaseHTTPRequestHandler):
    server: TinyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send(200, {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "me"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            server.seen.append((time.monotonic(), asked))
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            reply = server.faults.pop(0) if server.faults else server.reply
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            reply(self, asked)
        finally:
            with server.lock:
                server.at_once -= 1

    def send(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def answer(self, text: Any, tokens: int = 1, reason: str = "stop") -> None:
        message = {"role": "assistant", "content": text}
        self.send(
            200,
            {
                "id": "x", "object": "chat.completion", "created": 0, "model": "tiny",
                "choices": [{"index": 0, "message": message, "finish_reason": reason}],
                "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens},
            },
        )  # fmt: skip

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def echo(handler: Handler, asked: dict[str, Any]) -> None:
    handler.answer(asked["messages"][0]["content"])


def status(code: int, message: str = "no", **headers: str) -> Reply:
    return lambda handler, asked: handler.send(code, {"error": {"message": message}}, **headers)


def garbage(handler: Handler, asked: dict[str, Any]) -> None:
    handler.send(200, b"<html>not what you asked for")


def no_choices(handler: Handler, asked: dict[str, Any]) -> None:
    handler.send(200, {"object": "chat.completion", "choices": []})


def nothing(handler: Handler, asked: dict[str, Any]) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True


def slow(seconds: float) -> Reply:
    def wait(handler: Handler, asked: dict[str, Any]) -> None:
        time.sleep(seconds)
        echo(handler, asked)

    return wait


def by_engine(engine: Engine, context: int) -> Reply:
    """Answers as the engine does, one at a time, and refuses what is too long as vLLM's server does."""
    lock = threading.Lock()

    def reply(handler: Handler, asked: dict[str, Any]) -> None:
        sampling = SamplingConfig(
            temperature=asked["temperature"], top_p=asked["top_p"], max_new_tokens=asked["max_tokens"]
        )
        stop = asked.get("stop") or [None]
        prompt = asked["messages"][0]["content"]
        with lock:
            [made] = engine.generate([Request(str(asked["seed"]), prompt, stop=stop[0])], sampling, seed=0)
        if made.finish_reason == "error":
            return status(400, f"This model's maximum context length is {context} tokens.")(handler, asked)
        return handler.answer(made.text, made.n_tokens, made.finish_reason)

    return reply


@contextmanager
def serving(reply: Reply = echo) -> Iterator[TinyServer]:
    server = TinyServer(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
