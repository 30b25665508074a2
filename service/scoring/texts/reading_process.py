"""Text reading in a process of its own, at a low priority: what a text shows, and what redaction
leaves of it, computed outside the interpreter lock of the process that serves.

`ReadingProcess` is its handle. The process reads frames (four bytes of length, then MessagePack)
until its input ends, so it never outlives the one that started it. What it answers is what
`read_texts` gives anywhere else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO, cast

import msgspec
import structlog

from learning.conversation.redaction import Kind, redact
from learning.conversation.state import TextReading, read_text

NICE = 5
"""Whoever decides goes first; a core that has nothing else to do reads at its full speed."""

START_SECONDS, ANSWER_SECONDS = 30.0, 60.0
"""A process that takes longer is ended, and the texts are read by whoever asked."""

REST_SECONDS, REST_SECONDS_MAX = 1.0, 60.0
"""How long to do without it after a failure, at first and at most."""

FRAME_BYTES_MAX = 2**26
FAILURES = (OSError, EOFError, msgspec.MsgspecError)
"""What a process that has died, or is stuck, ends with here."""

_log = structlog.get_logger("baton.reading")


class TextJob(msgspec.Struct, frozen=True, array_like=True):
    """A text to read. `language` is its message's own, `spoken` that of the conversation there;
    `kinds` are the personal data to redact first.
    """

    author: str
    text: str
    format: str | None = None
    language: str | None = None
    spoken: str | None = None
    kinds: tuple[Kind, ...] = ()


class TextResult(msgspec.Struct, frozen=True, array_like=True):
    """The redacted text, None where nothing was redacted, and what it shows, None where nothing is
    looked for in it.
    """

    text: str | None = None
    reading: TextReading | None = None


_encoder = msgspec.msgpack.Encoder()
_jobs = msgspec.msgpack.Decoder(list[TextJob])
_results = msgspec.msgpack.Decoder(list[TextResult])


def read_texts(jobs: Sequence[TextJob]) -> list[TextResult]:
    """What the texts show. Pure: the same in every process."""
    return [_read(job) for job in jobs]


def _read(job: TextJob) -> TextResult:
    text = redact(job.text, job.kinds, job.language) if job.kinds else job.text
    changed = None if text == job.text else text
    if job.author not in ("user", "bot"):
        return TextResult(changed)
    return TextResult(changed, read_text(job.author, text, job.format, job.spoken))


class ReadingProcess:
    """Starts the process at the first text, and again after it has died. One thread uses it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._rest_until = 0.0
        self._rest = REST_SECONDS
        self._stopped = False

    def start(self) -> None:
        """Start it, and wait until it is ready, unless it runs or has just failed."""
        with self._lock:
            if self._process is not None or self._stopped or time.monotonic() < self._rest_until:
                return
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "service.scoring.texts.reading_process"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={k: v for k, v in os.environ.items() if not k.startswith("BATON_")},
                )
            except OSError as error:
                self._fail(error)
                return
        try:
            self._exchange((), START_SECONDS)
        except FAILURES as error:
            self._fail(error)

    def read(self, jobs: Sequence[TextJob]) -> list[TextResult]:
        """What the texts show; read right here where the process cannot be had."""
        self.start()
        if self._process is not None:
            try:
                results = _results.decode(self._exchange(jobs, ANSWER_SECONDS))
            except FAILURES as error:
                self._fail(error)
            else:
                self._rest = REST_SECONDS
                return results
        return read_texts(jobs)

    def _exchange(self, jobs: Sequence[TextJob], seconds: float) -> bytes:
        """Send texts, and wait for the answer. Raises FAILURES."""
        process = self._process
        assert process is not None
        asked, answers = cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)
        _write(asked, _encoder.encode(jobs))
        if not select.select([answers], [], [], seconds)[0]:
            raise TimeoutError(f"no answer within {seconds:g} seconds")
        answer = _read_frame(answers)
        if answer is None:
            raise EOFError(f"it ended with status {process.poll()}")
        return answer

    def _fail(self, error: Exception) -> None:
        """Do without the process for a while, longer each time."""
        self._end()
        self._rest_until = time.monotonic() + self._rest
        if not self._stopped:
            _log.error("reading_process_failed", why=str(error), again_in=self._rest)
        self._rest = min(2 * self._rest, REST_SECONDS_MAX)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # of what was not sent yet
                cast("BinaryIO", pipe).close()

    def stop(self) -> None:
        """End the process; a text that it reads is read here, so nobody waits for it."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Clear up after it, once nobody reads any more."""
        self._end()


def _write(stream: BinaryIO, frame: bytes) -> None:
    stream.write(len(frame).to_bytes(4, "big") + frame)
    stream.flush()


def _read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end of the stream, whether or not a frame had begun."""
    length = int.from_bytes(head, "big") if len(head := stream.read(4)) == 4 else -1
    if not 0 <= length <= FRAME_BYTES_MAX:
        return None
    frame = stream.read(length)
    return frame if len(frame) == length else None


def main() -> None:
    """Read what is asked until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: it is for who serves
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that prints can break a frame
    read_texts([TextJob("user", "This loads the lexicon before anyone waits for it.")])
    os.nice(NICE)
    while (frame := _read_frame(asked)) is not None:
        _write(answers, _encoder.encode(read_texts(_jobs.decode(frame))))


if __name__ == "__main__":
    main()
