"""No test asserts how long something takes, or has a limit of its own: see `tests/waiting.py`."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
CLOCKS = r"\b(?:monotonic|perf_counter|process_time|thread_time)(?:_ns)?\(\)"
LIMITS = r"\btimeout=\d|\.(?:wait|join|result|communicate)\((?:timeout=)?\d|mark\.timeout\("
SEEN = re.compile(f"{CLOCKS}|{LIMITS}")

ALLOWED = {
    "waiting.py": "where all wait",
    "mlflow_server.py": "how long a group that was asked to end is left to itself: nothing fails",
    "test_processes.py": "a process is said to have begun an hour ago",
    "test_faults.py": "a soak may take hours",
    "test_bounds.py": "how much the loop works in one go, beside all the work of the request",
    "test_limits.py": "says what is looked for",
}


def found(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if SEEN.search(line)]


def test_no_test_reads_a_clock_or_has_a_limit_of_its_own() -> None:
    every = {path.name: found(path.read_text()) for path in TESTS.rglob("*.py")}
    wrong = {name: lines for name, lines in every.items() if lines and name not in ALLOWED}
    assert wrong == {}
    assert [name for name in ALLOWED if not every[name]] == [], "what needs no exception has none"


def test_what_is_looked_for_is_found() -> None:
    lines = "took = time.monotonic()", "thread.join(5)", "urlopen(url, timeout=2)", "both.wait(10)"
    assert found("\n".join(lines)) == list(lines)
    assert found("process.wait(LIMIT_SECONDS)\nexpect(page).to_be_visible()") == []
