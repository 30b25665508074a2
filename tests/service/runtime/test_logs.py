"""A log that cannot be written costs its line, never a request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PYTHON_COULD_NOT_FLUSH = 120
"""Its exit code, now and then, when standard error is full to the end."""

SPEAK = (
    "import structlog\n"
    "from service.runtime import logs\n"
    "logs.configure('info', process='test')\n"
    "for number in range(3):\n"
    "    structlog.get_logger().info('said', number=number)\n"
    "print('went on')\n"
)


def test_a_full_disk_under_the_log_stops_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SPEAK],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert done.stdout == "went on\n"
    assert done.returncode in {0, PYTHON_COULD_NOT_FLUSH}


def test_a_line_is_one_json_object_with_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, text=True, check=True)
    first, *others = done.stderr.splitlines()
    assert len(others) == 2
    assert '"event": "said"' in first
    assert '"process": "test"' in first


def test_what_a_library_says_is_an_object_a_line_too_with_its_traceback() -> None:
    speak = (
        "import logging\n"
        "from service.runtime import logs\n"
        "logs.configure('info', process='test')\n"
        "logging.getLogger('apscheduler').warning('late by %d', 3)\n"
        "logging.getLogger('apscheduler').info('of no interest')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n"
        "    logging.getLogger('uvicorn').exception('broke')\n"
    )
    done = subprocess.run([sys.executable, "-c", speak], capture_output=True, text=True, check=True)
    late, broke = map(json.loads, done.stderr.splitlines())
    assert (late["event"], late["logger"], late["level"]) == ("late by 3", "apscheduler", "warning")
    assert late["process"] == "test"
    assert "ZeroDivisionError" in broke["exception"]
