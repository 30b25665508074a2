"""The newcomer's pages are run, block by block, against a real service; their answers are true."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import Baton
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "start" / "first-correction.md"
BOT = ROOT / "docs" / "start" / "first-bot.md"
START = "make install\n.venv/bin/baton serve\n"

Block = tuple[str, str]  # language and text


def blocks(page: Path = PAGE) -> list[Block]:
    """A page's fenced blocks in their order; the first one of PAGE starts the service."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """`baton serve` as the page starts it, with `.baton` in a folder of its own; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--port", str(port)],
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    try:

        def is_ready() -> bool:
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            return _ready(url)

        until(is_ready, "the service is ready")
        yield url
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def played(url: str, folder: Path) -> list[tuple[list[Any], list[Any]]]:
    """Each block's answers, and what the page says of the last of them."""
    script, expected = ["set -e"], []
    for language, text in blocks()[1:]:
        if language == "sh":
            script += [f"echo '== {len(expected)}'", text]
            expected.append([])
        else:
            expected[-1].append(json.loads(text))
    source = "\n".join(script).replace("http://127.0.0.1:8000", url)
    run = subprocess.run(
        ["sh", "-c", source.replace(".venv/bin/python", sys.executable)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    log = (folder / "serve.log").read_text(encoding="utf-8")
    assert run.returncode == 0, run.stdout + run.stderr + log
    parts = re.split(r"^== \d+$", run.stdout, flags=re.MULTILINE)[1:]
    answers = [[json.loads(line) for line in part.splitlines() if line] for part in parts]
    return list(zip(answers, expected, strict=True))


def figures_told() -> list[float]:
    """What the page's words say of probabilities: before any lesson, taught, and corrected."""
    told = re.findall(r"about (0\.\d+)", PAGE.read_text(encoding="utf-8"))
    return [float(figure) for figure in told]


def differs(told: Any, answer: Any) -> bool:
    """Whether an answer lacks something that is told of it; it may hold more."""
    if isinstance(told, Mapping):
        return any(name not in answer or differs(told[name], answer[name]) for name in told)
    if isinstance(told, list):
        return any(differs(*pair) for pair in zip(told, answer, strict=False)) or not answer
    return bool(told != answer)


@pytest.mark.skipif(not shutil.which("curl"), reason="the page's commands are curl's")
def test_the_page_teaches_a_correction(service: str, tmp_path: Path) -> None:
    """The figures in the words between the blocks are compared with the answers, too."""
    assert blocks()[0] == ("sh", START)
    found = played(service, tmp_path)
    for answers, expected in found:
        assert not any("error" in answer for answer in answers)
        assert [told for told in expected if differs(told, answers[-1])] == [], answers
    asked = [a["probability"] for answers, _ in found for a in answers if "thresholds" in a]
    first, _stuck, _opener, taught, corrected, rolled_back = asked
    assert [first, taught, corrected] == pytest.approx(figures_told(), abs=0.02)
    assert rolled_back == pytest.approx(first)


class FirstBot:
    """The page's bot in a process of its own, with the client as its wheel has it."""

    def __init__(self, program: str, folder: Path, url: str) -> None:
        (folder / "bot.py").write_text(program, encoding="utf-8")
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "bot.py"],
            cwd=folder,
            env=os.environ | {"BATON": url, "PYTHONPATH": str(client_of_its_wheel(folder))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def hears(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def says(self, *lines: str) -> None:
        """All that it has said so far."""
        until(lambda: len(self.lines) >= len(lines) or self.process.poll(), "the bot speaks")
        assert self.lines == list(lines)

    def end(self) -> str:
        """Its standard input ends; gives what it complained of."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        self._reader.join(LIMIT_SECONDS)
        self.process.wait(LIMIT_SECONDS)
        complaint = self.process.stderr.read()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return complaint


def client_of_its_wheel(folder: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT / "service" / "client", check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("baton_client-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_first_bot_answers_hands_over_is_silent_and_resumes(
    service: str, tmp_path: Path
) -> None:
    _, (language, program), _, (_, person) = blocks(BOT)
    assert language == "python"
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 60
    keys = json.loads((tmp_path / ".baton" / "keys.json").read_text())
    bot = FirstBot(program, tmp_path, service)
    told = ["bot: We are open from 8 to 18."]
    try:
        bot.hears("When are your hours?")
        bot.says(*told)
        bot.hears("I want to talk to a real person")
        bot.says(*told, "bot: A person takes over now.")
        bot.hears("Hello?")
        with Baton(service, keys["agent"]) as agent:
            until(lambda: agent.handoffs("waiting"), "the handoff waits")
            (waiting,) = agent.handoffs("waiting")
            heard = lambda: agent.conversation(waiting.conversation_id).messages  # noqa: E731
            until(lambda: any(one.text == "Hello?" for one in heard()), "Baton has heard it")
        run = subprocess.run(
            [sys.executable, "-c", person.replace("http://127.0.0.1:8000", service)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        told += ["bot: A person takes over now.", "agent: Hello, this is a real person."]
        told += ["bot: I am back. What else can I do?"]
        bot.says(*told)
        bot.hears("Can I track it?")
        bot.says(*told, "bot: Here is our page about tracking.")
    finally:
        complaint = bot.end()
    assert complaint == ""
    with Baton(service, keys["agent"]) as agent:
        over = agent.conversation(waiting.conversation_id)
    assert (over.status, over.resolution) == ("closed", "resolved")
    told_to_the_model = [one.author for one in over.messages if one.author != "system"]
    assert told_to_the_model == ["user", "bot", "user", "bot", "user", "agent", "bot", "user"]


def test_the_first_bot_offers_a_person_and_takes_the_answer(service: str, tmp_path: Path) -> None:
    _, (_, program), _, _ = blocks(BOT)
    keys = json.loads((tmp_path / ".baton" / "keys.json").read_text())
    policy = {
        "costs": {"unneeded": 1e6, "missed": 1e6, "ask": 0.0},
        "accepting": {"needed": 1.0, "unneeded": 0.0},
        "offers": {"share_max": 1.0, "first_message": True},
    }
    headers = {"Authorization": f"Bearer {keys['engineer']}"}
    changed = httpx.patch(f"{service}/v1/policy", json=policy, headers=headers)
    assert changed.status_code == 200, changed.text
    bot = FirstBot(program, tmp_path, service)
    offer = "bot: Would you like to talk to a person? (yes or no)"
    try:
        bot.hears("my parcel is not here")
        bot.says(offer)
        bot.hears("yes")
        with Baton(service, keys["agent"]) as agent:
            until(lambda: agent.handoffs("waiting"), "the handoff waits")
    finally:
        complaint = bot.end()
    assert (bot.lines, complaint) == ([offer], "")


def test_what_the_page_tells_can_differ_from_an_answer() -> None:
    answer = {"action": "offer", "triggers": [{"kind": "model"}], "handoff": None}
    assert not differs({"action": "offer", "triggers": [{"kind": "model"}]}, answer)
    assert differs({"action": "escalate"}, answer)
    assert differs({"triggers": [{"kind": "request"}]}, answer)
    assert differs({"version": 1}, answer)
