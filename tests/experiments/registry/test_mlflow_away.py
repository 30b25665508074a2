"""An MLflow that is away or sick, and the small server of Baton's own."""

import contextlib
import json
import os
import socket
import threading
from urllib.parse import parse_qs

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest

from experiments.registry.mlflow_client import RegistryUnavailable
from experiments.registry.mlflow_server import mlflow_pages_url, server
from experiments.registry.registered_versions import Registry
from tests.mlflow_server import free_port
from tests.registered import log, publish


def test_a_dead_server_is_told():
    registry = Registry(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RegistryUnavailable):
        publish(registry, "away")
    with pytest.raises(RegistryUnavailable):
        log(registry, "away")
    with pytest.raises(RegistryUnavailable):
        registry.aliases("away")
    with pytest.raises(RegistryUnavailable):
        registry.set_alias("away", "champion", "1")


def test_a_server_that_never_answers_is_asked_twice_at_most_and_told():
    """So that nobody waits for longer than twice the time limit."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        registry = Registry(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=1)
        with pytest.raises(RegistryUnavailable):
            registry.aliases("slow")
        assert 1 <= called(silent) <= 2
        with pytest.raises(RegistryUnavailable):
            publish(registry, "slow")
        assert 1 <= called(silent) <= 2


def called(listening: socket.socket) -> int:
    """How often a server that takes no call was called since it was last asked."""
    count = 0
    listening.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    listening.setblocking(True)
    return count


@pytest.mark.parametrize("answer", [b"500 Internal Server Error", b"503 Service Unavailable"])
def test_a_server_that_breaks_is_unavailable_not_refusing(answer):
    with socket.socket() as broken:
        broken.bind(("127.0.0.1", 0))
        broken.listen(16)
        threading.Thread(target=breaking, args=(broken, answer), daemon=True).start()
        registry = Registry(f"http://127.0.0.1:{broken.getsockname()[1]}")
        with pytest.raises(RegistryUnavailable):
            registry.aliases("broken")


def breaking(listening: socket.socket, answer: bytes) -> None:
    body = b'{"error_code": "INTERNAL_ERROR", "message": "broken"}'
    while True:
        try:
            caller, _ = listening.accept()
        except OSError:
            return
        with caller:
            caller.recv(65536)
            head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nRetry-After: 60\r\n" % (answer, len(body))
            caller.sendall(head + b"Connection: close\r\n\r\n" + body)


def test_the_small_server_is_small_and_tells_nobody(tmp_path):
    started = server(tmp_path, environ={"PATH": "/bin", "MLFLOW_TRACKING_URI": "http://x"})
    assert "--workers 1" in " ".join(started.command)
    assert started.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert started.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "MLFLOW_TRACKING_URI" not in started.environment
    assert "--allowed-hosts" not in started.command


def test_the_engineers_page_is_found_without_mlflow_and_has_its_view(registry, mlflow_url, client):
    run_id = log(registry, "paged")
    page = mlflow_pages_url(mlflow_url, "paged")
    experiment = client.get_experiment_by_name("baton/paged")
    assert page.startswith(f"{mlflow_url}/#/experiments/{experiment.experiment_id}/runs?")
    assert f"/runs/{run_id}?" in mlflow_pages_url(mlflow_url, "paged", run_id)
    view = parse_qs(page.partition("?")[2])["viewStateShareKey"][0]
    kept = json.loads(experiment.tags[f"mlflow.sharedViewState.{view}"])
    assert "metrics.`champion/log_loss`" in json.loads(kept["state"])["selectedColumns"]


def test_before_there_is_an_engineers_page_the_servers_own_is_named(mlflow_url):
    assert mlflow_pages_url(mlflow_url, "nobody") == mlflow_url
    assert mlflow_pages_url("http://127.0.0.1:1") == "http://127.0.0.1:1"


def test_another_name_for_the_server_is_allowed_with_and_without_its_port(tmp_path):
    started = server(tmp_path, environ={}, host="0.0.0.0", port=5001, allowed_hosts=["mlflow"])
    names = started.command[started.command.index("--allowed-hosts") + 1].split(",")
    assert {"mlflow", "mlflow:5001", "localhost", "127.0.0.1:5001"} <= set(names)
    assert started.url == "http://127.0.0.1:5001"
