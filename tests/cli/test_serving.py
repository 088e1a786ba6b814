import socket

import pytest

from synpo_lab.cli.serving import refuse_taken_port
from synpo_lab.errors import ConfigError


def test_a_taken_port_is_refused_with_another_to_try() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            refuse_taken_port("127.0.0.1", port)
    assert f"127.0.0.1:{port}" in caught.value.message
    assert f"--port {port + 1}" in caught.value.hint


def test_a_free_port_is_accepted() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refuse_taken_port("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        refuse_taken_port("203.0.113.1", 7860)


def test_a_taken_port_ends_serve_with_code_2(cli, home) -> None:  # type: ignore[no-untyped-def]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = cli("serve", "--home", home, "--port", taken.getsockname()[1], "--no-open")
    assert answer.code == 2
    assert "hint: choose another" in answer.err
