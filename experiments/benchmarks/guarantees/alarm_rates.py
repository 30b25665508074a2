"""False-alarm rate and detection delay of the loss alarm (e-detector), beside ADWIN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from experiments.benchmarks.guarantees.promise import Row, mean, median, promise
from learning.monitoring.loss_drift import LossAlarm

Floats = NDArray[np.float64]
ONCE_IN = 10_000.0


def doubled_loss(seed: int) -> Row:
    """Losses of mean .1 that double; `allowed` is .12, a certified upper bound plus a tolerance."""
    random = np.random.default_rng((5, seed))
    alarm, adwin = LossAlarm(0.12, ONCE_IN), ADWIN()  # type: ignore[no-untyped-call]
    false_alarms = labels = 0
    for loss in random.random(2000) < 0.1:
        labels += 1
        adwin.update(float(loss))  # type: ignore[no-untyped-call]
        if alarm.learn(float(loss)):
            false_alarms += 1
            alarm = LossAlarm(0.12, ONCE_IN)
    edge, edge_alarms = LossAlarm(0.12, ONCE_IN), 0
    for loss in random.random(2000) < 0.12:
        if edge.learn(float(loss)):
            edge_alarms += 1
            edge = LossAlarm(0.12, ONCE_IN)
    losses = (random.random(5000) < 0.2).astype(float)
    delay = next((n for n, x in enumerate(losses, 1) if alarm.learn(x)), len(losses))
    return {
        "false": false_alarms,
        "edge": edge_alarms,
        "labels": labels,
        "delay": delay,
        "adwin": _adwin(adwin, losses),
    }


def _adwin(adwin: ADWIN, losses: Floats) -> int:
    for n, loss in enumerate(losses, 1):
        adwin.update(loss)  # type: ignore[no-untyped-call]
        if adwin.drift_detected:
            return n
    return len(losses)


def summarise(rows: Sequence[Row]) -> Iterator[Row]:
    rate = mean(rows, "false") / mean(rows, "labels") * ONCE_IN
    yield promise("false alarms in 10 000 labels", "<= 1", rate, holds=rate <= 1)
    edge = mean(rows, "edge") / mean(rows, "labels") * ONCE_IN
    yield promise("the same, with a loss as high as allowed", "<= 1", edge, holds=edge <= 1)
    delay, adwin_delay = median(rows, "delay"), median(rows, "adwin")
    yield promise("labels until a doubled loss is told", "told", delay, holds=True)
    yield promise("the same, ADWIN", "told", adwin_delay, holds=True)
    yield promise(
        "its delay over ADWIN's", "<= 0.5", delay / adwin_delay, holds=delay <= 0.5 * adwin_delay
    )
