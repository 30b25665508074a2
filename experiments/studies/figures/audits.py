"""Figures on audit sampling: what is not observed, coverage at every look, audit budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.studies.figures.simulated_service import EndedConversation
from experiments.studies.figures.svg import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PALE,
    RED,
    Panel,
    Scale,
    counts,
    percents,
    picture,
)
from learning.estimation.rate_intervals import (
    ALPHA,
    Z_95,
    evidence_under_drift,
    missed_rate,
    under_drift,
)

Floats = NDArray[np.float64]
Figures = dict[str, Any]

SERVICES, SHARE, LOOK_FROM = 400, 0.1, 30
DRAWS = 41
NAMES = {"baton": "Baton", "wilson": "Wilson", "wald": "Wald"}
COLOURS = {"baton": BLUE, "wilson": GREY, "wald": RED}


def unseen(ended: list[EndedConversation]) -> tuple[str, Figures]:
    """Outcomes of the service beside those it observes."""
    handed_over = [case for case in ended if case.handed_over]
    by_bot = [case for case in ended if not case.handed_over]
    audited = [case for case in by_bot if case.audit and case.audit.uniform and not case.caught]
    figures: Figures = {
        "handed_over": len(handed_over),
        "not_needed": sum(not case.needed for case in handed_over),
        "kept": len(by_bot),
        "missed": sum(case.needed for case in by_bot),
        "caught": sum(case.caught for case in by_bot),
        "audited": len(audited),
        "audits_missed": sum(case.needed for case in audited),
    }
    figures["estimate"] = _three(
        missed_rate(len(by_bot), figures["caught"], len(audited), figures["audits_missed"])
    )
    whole, over, fine = len(ended), len(handed_over), len(ended) - figures["missed"]
    panel = Panel(30, 20, 720, 270, Scale(0, whole, [], ""), Scale(0, 270, [], ""))
    needed = over - figures["not_needed"]
    for y, rest, missed in ((228, GREEN, RED), (138, PALE, PALE)):
        for start, stop, colour in (
            (0, needed, BLUE),
            (needed, over, GREY),
            (over, fine, rest),
            (fine, whole, missed),
        ):
            panel.bar(y, start, stop, colour)
    panel.bar(138, whole - figures["caught"], whole, RED)
    for n in range(figures["audited"]):
        at = over + (n + 0.5) * (whole - figures["caught"] - over) / figures["audited"]
        panel.line([at, at], [31, 65], GREEN if n >= figures["audits_missed"] else RED, wide=1)
    low, high = figures["estimate"][1:]
    panel.words(0, 252, f"What was true of {whole:,} conversations".replace(",", " "))
    panel.words(0, 162, "What Baton is told of them")
    panel.words(0, 72, "What audits add")
    panel.words(0, 194, f"handed over: {needed} needed it, {figures['not_needed']} did not")
    panel.words(whole, 194, f"kept: {figures['missed']} of {len(by_bot)} were missed", RED, "end")
    panel.words(over, 104, "kept: nobody says anything")
    panel.words(whole, 104, f"but for {figures['caught']} complaints", RED, "end")
    panel.words(
        whole,
        14,
        f"{len(audited)} reviews drawn by lot, {figures['audits_missed']} of them missed: "
        f"with the complaints {low:.1%} to {high:.1%}",
        INK,
        "end",
    )
    caption = "Of kept conversations nothing is known but complaints, unless some are reviewed."
    return picture("What is seen, and what is not", caption, 780, 300, [panel]), figures


def _three(rate: Any) -> list[float]:
    return [round(float(x), 4) for x in (rate.rate, rate.low, rate.high)]


def _ends(kind: str, s: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Both ends of an interval for s of n, by one of the ways of making it."""
    share = s / n
    if kind == "baton":
        intervals = [under_drift(float(a), float(b)) for a, b in zip(s, n, strict=True)]
        return np.array([r.low for r in intervals]), np.array([r.high for r in intervals])
    if kind == "wald":
        half = Z_95 * np.sqrt(share * (1 - share) / n)
        return share - half, share + half
    z2 = Z_95 * Z_95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return middle - half, middle + half


def wrong(kind: str, s: Floats, n: Floats, truth: Floats) -> NDArray[np.bool_]:
    """Miscoverage: whether each interval, s of n, leaves out the truth at its look."""
    if kind == "baton":
        against = evidence_under_drift(s, n, np.clip(truth, 1e-12, 1 - 1e-12))
        return np.asarray(against >= math.log(1 / ALPHA))
    low, high = _ends(kind, s, n)
    return np.asarray((truth < low) | (truth > high))


def looks(ended: list[EndedConversation]) -> tuple[str, Figures]:
    """Intervals looked at again and again: one service, and how many are ever misled."""
    needed = np.array([looks_.needed for looks_ in ended if not looks_.handed_over])
    truth = needed.cumsum() / np.arange(1, needed.size + 1)
    most = int(needed.size * SHARE * 0.85)
    ever = {kind: np.zeros(most) for kind in NAMES}
    figures: Figures = {"services": SERVICES, "audits": most}
    example = None
    for draw_seed in range(SERVICES):
        at = np.flatnonzero(np.random.default_rng((5, draw_seed)).random(needed.size) < SHARE)[
            :most
        ]
        if at.size < most:
            raise ValueError(
                f"toss {draw_seed} drew {at.size} audits of {most}: play more conversations"
            )
        s, n = needed[at].cumsum().astype(float), np.arange(1.0, at.size + 1)
        misled = {kind: wrong(kind, s, n, truth[at]) for kind in NAMES}
        for kind, looks_ in misled.items():
            looks_[: LOOK_FROM - 1] = False
            ever[kind] += np.maximum.accumulate(looks_)
        if example is None and misled["wald"][150:].any():
            example = (s, n, truth[at])
    for kind in NAMES:
        figures[kind] = {"ever_wrong": int(ever[kind][-1])}
    if example is None:
        raise ValueError("Wald's interval was never wrong late: play more conversations")
    left = Panel(52, 62, 330, 216, _audits(most), percents(0.08, 0.02, ""), "One service")
    right = Panel(440, 62, 310, 216, _audits(most), percents(0.6, 0.2, ""))
    right.title = f"{SERVICES} services: misled at some look so far"
    _one(left, *example)
    for kind, name in NAMES.items():
        shares = ever[kind] / SERVICES
        right.line(list(range(1, most + 1)), list(shares), COLOURS[kind])
        right.words(most, float(shares[-1]) + 0.012, name, COLOURS[kind], "end")
    right.line([0, most], [ALPHA, ALPHA], INK, dash="3 4", wide=1)
    right.words(most / 2, ALPHA + 0.012, "promised: at most 5 %", INK)
    caption = (
        "Looked at again and again, Baton's interval is hardly ever wrong; the others often are."
    )
    return picture("Intervals at every look", caption, 780, 340, [left, right]), figures


def _audits(most: int) -> Scale:
    return counts(0, most, list(range(0, most, 200)), "audits answered")


def _one(panel: Panel, s: Floats, n: Floats, truth: Floats) -> None:
    part = slice(LOOK_FROM - 1, None, 3)
    xs = list(n[part])
    low, high = _ends("baton", s[part], n[part])
    panel.band(xs, list(low), list(high), BLUE)
    for end in _ends("wald", s[part], n[part]):
        panel.line(xs, list(end), RED, wide=1.2)
    panel.line(xs, list(truth[part]), INK)
    panel.words(n[-1], 0.046, "Baton", BLUE, "end")
    panel.words(n[-1], 0.0005, "Wald", RED, "end")
    panel.words(n[-1], float(truth[-1]) + 0.001, "truth", INK, "end")


def budget(ended: list[EndedConversation]) -> tuple[str, Figures]:
    """Interval width by number of audits answered."""
    needed = np.array([sample.needed for sample in ended if not sample.handed_over])
    truth = float(needed.mean())
    sizes = [int(n) for n in np.geomspace(LOOK_FROM, 3000, 13)]
    ends: dict[str, list[Floats]] = {"baton": [], "wilson": []}
    for n in sizes:
        samples = [
            np.random.default_rng((6, draw_seed)).permutation(needed)[:n]
            for draw_seed in range(DRAWS)
        ]
        counts_ = np.array([float(sample.sum()) for sample in samples])
        for kind, middle in ends.items():
            middle.append(np.median(_ends(kind, counts_, np.full(DRAWS, float(n))), axis=1))
    axis = counts(LOOK_FROM, 3000, [30, 100, 300, 1000, 3000], "audits answered", log=True)
    panel = Panel(60, 42, 560, 250, axis, percents(0.2, 0.05, ""))
    panel.title = f"Missed rate: between which ends does it lie? (median of {DRAWS} draws)"
    low, high = ([float(pair[side]) for pair in ends["baton"]] for side in (0, 1))
    panel.band(sizes, low, high, BLUE)
    for side in (0, 1):
        panel.line(sizes, [float(pair[side]) for pair in ends["baton"]], BLUE)
        panel.line(sizes, [float(pair[side]) for pair in ends["wilson"]], GREY, dash="4 4")
    panel.words(130, 0.135, "Baton: holds at every look", BLUE)
    panel.words(130, 0.12, "Wilson (dashed): holds at one look", GREY)
    panel.line([LOOK_FROM, 3000], [truth, truth], INK, wide=1.3)
    panel.words(3000, truth + 0.02, f"truth: {truth:.1%}", INK, "end")
    caption = "The interval narrows quickly up to some hundred audits, and slowly from then on."
    figures: Figures = {"truth": round(truth, 4)}
    for kind, pairs in ends.items():
        rounded = [[round(float(x), 4) for x in pair] for pair in pairs]
        figures[kind] = dict(zip(map(str, sizes), rounded, strict=True))
    return picture("What an audit budget buys", caption, 660, 350, [panel]), figures
