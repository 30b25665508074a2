"""The figures of the console: those of the runs, drawn by the same functions.

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

REPORTS_KEPT = 8
_drawn: OrderedDict[str, str] = OrderedDict()
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


def today(look: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
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
    said = "Each conversation stands where it was last heard of. What the bot kept and a person "
    said += "should have had is in the missed rate above, as far as audits know it."
    drawn = [_drawn_as(said, figure)]
    if rates:
        figure = rate_charts.rates_over_time("Automation, and how honest it is, over time", rates)
        said = "Each point is of the conversations that began around it, by what is known of them "
        said += "now. The whiskers hold however often one looks; where nothing is judged or no "
        said += "audit is answered, there is no point."
        drawn.append(_drawn_as(said, figure))
    if report is not None:
        drawn.append(_of_report(report))
    return f"[{','.join(filter(None, drawn))}]"


def _drawn_as(sentence: str, figure: Any) -> str:
    return f'{{"sentence":{json.dumps(sentence)},"figure":{figure.to_json(engine="json")}}}'


def _of_report(report: Mapping[str, Any]) -> str:
    """A report never changes, so its figures are drawn once. Its tables are the page's own."""
    from experiments.evaluation.figures import figures_page

    name = report["evaluation"]
    with _lock:
        if name not in _drawn:
            _drawn[name] = ",".join(
                _drawn_as(sentence, figure)
                for sentence, figure in figures_page.figures(report).items()
                if all(trace.type != "table" for trace in figure.data)
            )
        _drawn.move_to_end(name)
        while len(_drawn) > REPORTS_KEPT:
            _drawn.popitem(last=False)
        return _drawn[name]
