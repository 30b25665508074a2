"""Alert rules and dashboard, tried on a real Prometheus: each alert fires when it should and not
before, and each query of the dashboard is answered with what Baton's processes tell.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.mlflow_server import answers, end, free_port
from tests.running import installation, teach
from tests.service.jobs.test_health_server import address
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "baton.json").read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed"
)
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is not installed"
)

SERVE = 'instance="api:8000",job="baton-serve"'
FIRES: dict[str, dict[str, str]] = {
    "BatonDown": {f"up{{{SERVE}}}": "0x60"},
    "BatonErrors": {
        f'baton_responses_total{{{SERVE},status="200"}}': "0+100x60",
        f'baton_responses_total{{{SERVE},status="503"}}': "0+5x60",
    },
    "BatonSlow": {
        f'baton_request_seconds_bucket{{{SERVE},route="/v1/score",le="0.25"}}': "0+90x60",
        f'baton_request_seconds_bucket{{{SERVE},route="/v1/score",le="2.5"}}': "0+100x60",
        f'baton_request_seconds_bucket{{{SERVE},route="/v1/score",le="+Inf"}}': "0+100x60",
    },
    "BatonJobsSilent": {'baton_jobs_leader{instance="jobs:8001"}': "0x60"},
    "BatonQueueOfHandoffs": {
        'baton_handoff_oldest_timestamp_seconds{workspace="shop",team="support"}': "10x60"
    },
    "BatonDiskFull": {'baton_disk_free_bytes{instance="jobs:8001"}': "5e8x60"},
    "BatonRefuses": {f"baton_refused_total{{{SERVE}}}": "0+3x60"},
    "BatonBehind": {f'baton_ledger_lag_entries{{{SERVE},workspace="shop"}}': "70x60"},
    "BatonDiverged": {f'baton_diverged_total{{{SERVE},workspace="shop"}}': "0 0 1x60"},
    "BatonWorkspaceBroken": {f'baton_workspace_broken{{{SERVE},workspace="shop"}}': "1x60"},
    "BatonJobBroken": {'baton_job_runs_total{task="audit",result="broke"}': "0+1x60"},
    "BatonPublishingOwed": {'baton_publishing_owed{workspace="shop"}': "80x240"},
    "BatonDrift": {'baton_drift_alarm_timestamp_seconds{workspace="shop"}': "30x60"},
    "BatonKeysRefused": {
        f'baton_request_errors_total{{{SERVE},route="none",method="POST",status="401"}}': "0+60x60"
    },
}
"""What brings each alert about: series from minute 0 on, a value a minute."""

WELL = {
    f"up{{{SERVE}}}": "1x240",
    f'baton_responses_total{{{SERVE},status="200"}}': "0+100x240",
    f'baton_request_seconds_bucket{{{SERVE},route="/v1/score",le="0.01"}}': "0+100x240",
    f'baton_request_seconds_bucket{{{SERVE},route="/v1/score",le="+Inf"}}': "0+100x240",
    'baton_jobs_leader{instance="jobs:8001"}': "1x240",
    'baton_disk_free_bytes{instance="jobs:8001"}': "5e10x240",
    f"baton_refused_total{{{SERVE}}}": "0x240",
    f'baton_ledger_lag_entries{{{SERVE},workspace="shop"}}': "3x240",
    f'baton_diverged_total{{{SERVE},workspace="shop"}}': "0x240",
    f'baton_workspace_broken{{{SERVE},workspace="shop"}}': "0x240",
    'baton_job_runs_total{task="audit",result="ok"}': "0+30x240",
    'baton_publishing_owed{workspace="shop"}': "2x240",
    'baton_drift_alarm_timestamp_seconds{workspace="shop"}': "0x240",
}
"""An installation that is well."""


@needs_promtool
def test_the_rules_and_the_configuration_are_taken_by_prometheus() -> None:
    for kind, path in (("rules", RULES), ("config", CONFIG)):
        checked = subprocess.run(
            ["promtool", "check", kind, path], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_each_alert_fires_on_what_it_is_for_and_none_where_all_is_well(tmp_path: Path) -> None:
    assert FIRES.keys() == ALERTS.keys()
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": series(FIRES[name]),
            "promql_expr_test": [],
        }
        | {"alert_rule_test": [{"eval_time": "55m", "alertname": name}]}
        for name in ALERTS
    ]
    for test in tests:  # promtool compares labels and words, too: it is asked whether any fires
        del test["alert_rule_test"]
        time = "3h" if test["name"] == "BatonPublishingOwed" else "50m"
        query = f'count(ALERTS{{alertname="{test["name"]}",alertstate="firing"}}) > bool 0'
        firing = {"expr": query, "eval_time": time, "exp_samples": [{"labels": "{}", "value": 1}]}
        test["promql_expr_test"] = [firing]
    calm = {
        "expr": 'count(ALERTS{alertstate="firing"})',
        "eval_time": "3h",
        "exp_samples": [],
    }
    tests.append(
        {"name": "well", "interval": "1m", "input_series": series(WELL), "promql_expr_test": [calm]}
    )
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    tried = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr


def series(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": value} for name, value in values.items()]


def test_every_metric_that_is_asked_for_is_one_that_a_process_tells() -> None:
    """By its source: the names in the rules and the dashboard are declared there."""
    declared = "".join(
        (ROOT / "service" / "runtime" / name).read_text()
        for name in ("metrics.py", "job_metrics.py")
    )
    asked = set(re.findall(r"baton_\w+", RULES.read_text() + json.dumps(DASHBOARD)))
    for name in asked:
        plain = re.sub(r"_(bucket|count|sum)$", "", name)
        bare = plain.removeprefix("baton_")
        assert f'"{plain}"' in declared or f'"{bare}"' in declared, name


def queries() -> list[tuple[str, str]]:
    """Title and query of everything that the dashboard shows."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


QUIET_PANELS = {
    "Errors by route, a second",
    "Handoffs waiting",
    "Oldest waits for",
    "Handoffs that an agent has",
    "Since the last drift alarm",
    "Calibration error",
    "Log loss",
}
"""Panels that may be empty: nobody waits, nothing went wrong, nothing was evaluated yet."""


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[str]:
    """A Prometheus server that scrapes these, by job."""
    port = free_port()
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [target]}]}
        for job, target in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/-/ready"), "prometheus is ready")
        yield url
    finally:
        end(process)


@needs_prometheus
def test_a_real_prometheus_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    with installation(tmp_path / "home") as home:
        service = home.serve()
        jobs = home.jobs()
        targets = {
            "baton-serve": service.url.removeprefix("http://"),
            "baton-jobs": address(jobs).removeprefix("http://"),
        }
        place = home.workspace("told", service)
        with prometheus(tmp_path, targets) as url, place.caller("engineer", service) as engineer:

            def result(expr: str) -> Any:
                plain = expr.replace("$__rate_interval", "30s").replace("$workspace", ".*")
                answer = httpx.get(
                    f"{url}/api/v1/query", params={"query": plain}, trust_env=False
                ).json()
                assert answer["status"] == "success", (expr, answer)
                return answer["data"]["result"]

            until(lambda: result("count(baton_serving_version)"), "it has scraped jobs")
            number = iter(range(10_000))

            def shown(expr: str) -> bool:
                teach(engineer, f"c{next(number)}", 2)
                return any(one["value"][1] != "NaN" for one in result(expr))

            for title, expr in queries():
                if title in QUIET_PANELS:
                    result(expr)
                else:
                    until(lambda expr=expr: shown(expr), f"{title}: {expr}", every=0.5)
            alerts = httpx.get(f"{url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
            rules = [rule for group in alerts for rule in group["rules"]]
            assert {rule["name"] for rule in rules} == ALERTS.keys()
            assert all(rule["health"] != "err" for rule in rules), rules
