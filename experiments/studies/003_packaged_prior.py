"""Study 3, packaged prior: the weights of `prior.toml`, learned from simulated conversations.

Expected: with them the first hundred labels rank better than without (AUC about +.03 on USS and in
the simulator, +.01 on MHCH, 0 on DBDC, where only the bot's messages are judged), and no set ends
worse. `baton bench learning` measures that with the recipe's parameter `start=0`.

    python -m experiments.studies.003_packaged_prior            # writes prior.toml
    python -m experiments.studies.003_packaged_prior --print    # shows it
"""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.benchmarks.inputs.feature_rows import simulated_talks
from learning.conversation.features import CONTEXT
from learning.models.bayesian_logistic import BayesianLogisticRegression
from learning.models.hashed_features import BUCKETS, bucket
from learning.models.mixture import packaged_prior
from learning.models.mixture.packaged_prior import BIAS

SEED, CONVERSATIONS = 9001, 3000
HEAD = """# Weights of context features, learned from {count} conversations that the project's own
# simulator wrote (seed {seed}); made by
# `python -m experiments.studies.003_packaged_prior`, never by hand.
[context]
"""


def made(conversations: int = CONVERSATIONS) -> str:
    """The file's text: names in the order of `features`, three digits, zeros left out."""
    model = BayesianLogisticRegression(v0=0.1, v0_context=0.1)
    for talk in simulated_talks(SEED, conversations):
        for row, label, weight in zip(talk.rows, talk.labels, talk.weights, strict=True):
            model.learn_row(row, label, weight)
    places = {BIAS: 0} | {name: bucket(name, BUCKETS) for name in CONTEXT}
    weights = {name: round(float(model.weights[place]), 3) for name, place in places.items()}
    lines = [f"{name} = {weight}" for name, weight in weights.items() if weight]
    return HEAD.format(count=conversations, seed=SEED) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = made()
    if "--print" in sys.argv:
        sys.stdout.write(text)
    else:
        file = Path(str(packaged_prior.__file__)).with_name("prior.toml")
        file.write_text(text, encoding="utf-8")
        print(f"{file.name}: {text.count(' = ')} weights")
