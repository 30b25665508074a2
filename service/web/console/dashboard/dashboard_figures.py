"""Plotly figures of the dashboard, drawn by the same functions as those of MLflow runs.

They are drawn only where somebody looks, in a thread, and the packages that draw are imported
only then: who never looks never pays for them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from threading import Lock
from typing import Any

CACHED_REPORTS = 8
_cache: OrderedDict[str, str] = OrderedDict()
_lock = Lock()


_INLINE = re.compile(r'if\(!document\.getElementById\("[0-9a-f]{64}"\)\)')


@cache
def script() -> bytes:
    """plotly.js, compressed by gzip, without the styles of its maps.

    No figure has a map, and pages of the console allow no style that a script brings along.
    """
    from experiments.evaluation.figures import charts

    return gzip.compress(_INLINE.sub("if(false)", charts.script()).encode(), 6, mtime=0)


def script_name() -> str:
    """Another release of plotly.js has another address."""
    return f"plotly-{version('plotly')}.min.js"


def dashboard_figures(look: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
    """The figures of a look (`service.quality.dashboard_data.dashboard_json`), as a JSON list of
    `{sentence, figure}`.
    """
    from experiments.evaluation.figures import rate_charts

    bars, rates = look["bars"], look["rates"]
    figure = rate_charts.counts_over_time(
        "Conversations over time",
        "conversations",
        bars["times"],
        {"kept by the bot": bars["kept"], "handed to a person": bars["handed_over"]},
    )
    sentence = (
        "Each conversation stands where it was last heard of. What the bot kept and a person "
    )
    sentence += "should have had is in the missed rate above, as far as audits know it."
    figures = [_figure_json(sentence, figure)]
    if rates:
        figure = rate_charts.rates_over_time("Automation, and how honest it is, over time", rates)
        sentence = (
            "Each point is of the conversations that began around it, by what is known of them "
        )
        sentence += "now. The whiskers hold however often one looks; where nothing is judged or no "
        sentence += "audit is answered, there is no point."
        figures.append(_figure_json(sentence, figure))
    if report is not None:
        figures.append(_report_figures(report))
    return f"[{','.join(filter(None, figures))}]"


def _figure_json(sentence: str, figure: Any) -> str:
    return f'{{"sentence":{json.dumps(sentence)},"figure":{figure.to_json(engine="json")}}}'


def _report_figures(report: Mapping[str, Any]) -> str:
    """A report never changes, so its figures are drawn once. Its tables are the page's own."""
    from experiments.evaluation.figures import figures_page

    name = report["evaluation"]
    with _lock:
        if name not in _cache:
            _cache[name] = ",".join(
                _figure_json(sentence, figure)
                for sentence, figure in figures_page.figures(report).items()
                if all(trace.type != "table" for trace in figure.data)
            )
        _cache.move_to_end(name)
        while len(_cache) > CACHED_REPORTS:
            _cache.popitem(last=False)
        return _cache[name]
