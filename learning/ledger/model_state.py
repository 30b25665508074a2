"""Event sourcing of the model: ledger entries, and `replay_entries`, the one loop that learns them.

The ledger is an append-only event log. A *model state* is what a process holds in memory: the
learned state of one line at one position. It only ever changes by replaying the ledger, entry
after entry, so every process at the same position of the same line holds the same model. Serving,
evaluation and experiments all run this loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from learning.conversation.features import Parts, names, parts
from learning.conversation.state import EMPTY, Message, State, step
from learning.decision.policy import Policy, route_for_state
from learning.decision.teams.team_classifier import RoutingScores, RoutingTrial, TeamClassifier
from learning.decision.words.own_phrases import with_own_phrases
from learning.ledger.advice_worth import AdviceTrials, action_cost
from learning.ledger.lessons import WEAK_SOURCES, Lesson, calibration_weight, lessons
from learning.measures.scores import Window
from learning.models.calibration import Calibrator
from learning.models.hashed_features import Floats, HashedClassifier, Row, sigmoid
from learning.models.mixture.advisers import Advice, Advisers
from learning.models.mixture.expert_mixture import Mixture
from learning.models.plugins.entry_points import appended
from learning.models.recipes import get_recipe

Kind = Literal["policy", "switch", "outcome", "retraction", "erasure"]
KINDS: frozenset[str] = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered event of a workspace's ledger. `body` is plain JSON; its keys depend on `kind`.

    policy: the policy document. switch: `version`, `learn_from`, `without`, `reason`, `evidence`.
    outcome: see `learning.ledger.lessons.lessons`, and `outcome_id`, `conversation_id`, `agent`,
    `source`, `propensity`, `by_rule`, `team` and how that is known (`team_by`: agent, transfer or
    stayed); a correction says which position it `replaces`. retraction:
    `outcome_id` and the position it `replaces`, with nothing. erasure:
    `conversation_id`, whose text is gone (or only that of `message_id`), and the positions of the
    outcomes about it, which it `replaces_all`.
    """

    position: int
    kind: Kind
    body: Mapping[str, Any]
    actor: str
    at: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A message as it stands in its conversation, and whether it was scored when it came.

    `removed` is the ledger position at which its words were removed; 0: they are there.
    """

    message: Message
    scored: bool
    removed: int = 0


Transcript = Callable[[str, int], Sequence[Turn]]
"""The first n turns of a conversation, by its id."""


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Filter of the outcomes that a line leaves out. An outcome must match every set criterion.

    `positions` and `withheld` are left out besides: corrected outcomes one by one, and what
    rollbacks left behind, as (after, up to).
    """

    agent: str | None = None
    source: str | None = None
    from_position: int | None = None
    to_position: int | None = None
    positions: frozenset[int] = frozenset()
    withheld: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Exclusions:
        criteria = dict(body or {})
        criteria["positions"] = frozenset(criteria.get("positions", ()))
        criteria["withheld"] = tuple(
            (after, until) for after, until in criteria.get("withheld", ())
        )
        return cls(**criteria)

    def body(self) -> dict[str, Any]:
        """As plain JSON; `Exclusions.of` reads it back."""
        criteria = ("agent", "source", "from_position", "to_position")
        body = {name: getattr(self, name) for name in criteria if getattr(self, name) is not None}
        lists = {"positions": sorted(self.positions), "withheld": [list(x) for x in self.withheld]}
        return body | {name: listed for name, listed in lists.items() if listed}

    def withholds(self, position: int) -> bool:
        """Whether a rollback left this position behind."""
        return any(after < position <= until for after, until in self.withheld)

    def leaves_out(self, entry: Entry) -> bool:
        """Whether the line does not learn this outcome."""
        if entry.position in self.positions or self.withholds(entry.position):
            return True
        if (self.agent, self.source, self.from_position, self.to_position) == (None,) * 4:
            return False
        return (
            self.agent in (None, entry.body.get("agent"))
            and self.source in (None, entry.body.get("source"))
            and entry.position >= (self.from_position or 0)
            and entry.position <= (math.inf if self.to_position is None else self.to_position)
        )


CAUSES_MAX = 3
"""So many causes of a probability are named."""

CAUSE_MIN = 0.05
"""Less than this on the log odds is no cause."""


@dataclass(frozen=True, slots=True)
class Score:
    """Prediction for a message. `raw` is the probability before calibration, and `own_margin` the
    model's own log odds where advice was heard.
    """

    probability: float
    uncertainty: float
    raw: float
    own_margin: float = 0.0


@dataclass(frozen=True, slots=True)
class LearnedEffect:
    """What learning one outcome changed for the last message that it teaches about."""

    message_id: str
    before: float
    after: float


OnLearned = Callable[[Entry, LearnedEffect], None]
"""Who is told what an outcome changed."""


@dataclass(slots=True)
class ModelState:
    """The learned state of one line at one position; owned by one thread.

    `half_learned` is true from the first lesson of an outcome to its last. One that stays so, since
    an error came in between, is no longer the fold of its ledger: restore it anew. One that is
    `frozen` is tested and never learns. One that is `provisional` was trained on the newest
    outcomes alone, because its line's recipe is another build's: it serves until the line is
    rebuilt, and is neither saved nor compared.
    """

    recipe: str
    version: int = 0
    switch: int = 0
    learn_from: int = 0
    position: int = 0
    without: Exclusions = Exclusions()
    policy: Policy = field(default_factory=Policy)
    model: HashedClassifier = field(init=False)
    donor: str = field(init=False)
    features: tuple[str, ...] = field(init=False)
    calibrator: Calibrator = field(default_factory=Calibrator)
    window: Window = field(default_factory=Window)
    router: TeamClassifier = field(default_factory=TeamClassifier)
    routed: RoutingScores = field(default_factory=RoutingScores)
    advisers: Advisers = field(default_factory=Advisers)
    advice_trials: AdviceTrials = field(default_factory=AdviceTrials)
    half_learned: bool = False
    frozen: bool = False
    provisional: bool = False
    _newest: tuple[State, Parts, Row] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        recipe = get_recipe(self.recipe)
        self.recipe, self.model = recipe.name, recipe.build()
        self.donor, self.features = recipe.donor, recipe.features
        if recipe.donor:
            self.calibrator = Calibrator(cautious=False)

    def adopt(self, weights: Floats) -> None:
        """Take the weights of the donor that the recipe names, before the first lesson."""
        if not isinstance(self.model, Mixture):
            raise TypeError(f"{self.recipe} takes no donor")
        self.model.adopt(weights)

    def donated_weights(self) -> Floats:
        """What this model says, as the weights of one linear model on the log odds, calibrated: the
        donor of another. TypeError where it is none.
        """
        slope, offset = self.calibrator.linear
        weights = self.model.linear_weights() * slope
        weights[0] += offset
        return weights

    def score(self, state: State) -> Score:
        """Score the newest message of a conversation state. Changes nothing."""
        return self._score(self._row(state), state.advice)

    def causes(self, state: State) -> tuple[str, ...]:
        """What speaks most for a person at the newest message (leave-one-out attribution), in words
        that a person uses, the strongest first. Changes nothing.
        """
        groups, row = self._example(state)
        by_phrase = names(state, groups)
        effects = self.model.attribute(row, list(by_phrase.values()))
        strongest = sorted(zip(effects, by_phrase, strict=True), key=lambda at: (-at[0], at[1]))
        return tuple(phrase for effect, phrase in strongest[:CAUSES_MAX] if effect >= CAUSE_MIN)

    def _row(self, state: State) -> Row:
        return self._example(state)[1]

    def _example(self, state: State) -> tuple[Parts, Row]:
        """A state's features, and their row; kept of the newest state, whose causes are asked for
        once it is scored.
        """
        if self._newest is None or self._newest[0] is not state:
            groups = self._parts(state)
            self._newest = state, groups, self.model.row(groups)
        return self._newest[1], self._newest[2]

    def _parts(self, state: State) -> Parts:
        groups = parts(state)
        return groups | appended(self.features, state) if self.features else groups

    def _score(self, row: Row, advice: Advice = ()) -> Score:
        if not advice:
            raw, uncertainty = self.model.assess(row)
            return Score(self.calibrator(raw), uncertainty, raw)
        margin, uncertainty = self.model.margin_row(row)
        raw = sigmoid(self.advisers.margin(margin, advice))
        return Score(self.calibrator(raw), uncertainty, raw, margin)

    def learns(self, entry: Entry) -> bool:
        """Whether this line learns from an entry: an outcome after its start, and not excluded."""
        return (
            entry.kind == "outcome"
            and entry.position > self.learn_from
            and not self.without.leaves_out(entry)
        )

    def learn(
        self, entry: Entry, turns: Sequence[Turn], on_learned: OnLearned | None = None
    ) -> None:
        """Test-then-learn (prequential) one outcome: all of it is scored before any teaches.

        Outcomes that a rule or a request led to, and labels that nobody gave, teach too, but carry
        no weight in the measures: they say nothing for or against the model.
        """
        conversation_lessons = lessons(
            entry.body, (n for n, turn in enumerate(turns, 1) if turn.scored)
        )
        team_place = _team_lesson_place(entry.body)
        states = _states_at(turns, {*(lesson.seq for lesson in conversation_lessons), team_place})
        examples = [
            (row, lesson, self._score(row, states[lesson.seq].advice))
            for lesson in conversation_lessons
            for row in (self._row(states[lesson.seq]),)
        ]
        calibrating = calibration_weight(entry.body.get("propensity"))
        unmeasured = entry.body.get("by_rule") or entry.body.get("source") in WEAK_SOURCES
        measured_weight = 0.0 if unmeasured else 1.0
        self.half_learned = True
        for _, lesson, score in examples:
            self.window.add(
                entry.position,
                score.probability,
                lesson.label,
                lesson.weight * measured_weight,
                entry.body["conversation_id"],
            )
            advice = states[lesson.seq].advice
            if advice and measured_weight:
                self._try_without(entry.position, advice, score, lesson)
            if not self.frozen:
                self.calibrator.learn(score.raw, lesson.label, lesson.weight * calibrating)
                self.advisers.learn(score.own_margin, advice, lesson.label, lesson.weight)
        if examples and not self.frozen:
            rows, taught, _ = zip(*examples, strict=True)
            self.model.learn(rows, [x.label for x in taught], [x.weight for x in taught])
        if team_place in states:
            self._learn_team(entry, states[team_place], turns[team_place - 1].message)
        self.half_learned = False
        if on_learned is not None and examples:
            row, lesson, before = examples[-1]
            after = self._score(row, states[lesson.seq].advice)
            message = turns[lesson.seq - 1].message.id
            on_learned(entry, LearnedEffect(message, before.probability, after.probability))

    def _try_without(self, position: int, advice: Advice, score: Score, lesson: Lesson) -> None:
        """Test what each adviser is worth: what the decision costs with it and without."""
        with_all = action_cost(self.policy, score.probability, lesson.label)
        for name, _ in advice:
            if name not in self.advisers.names:
                continue
            others = [said for said in advice if said[0] != name]
            raw = sigmoid(self.advisers.margin(score.own_margin, others))
            without = action_cost(self.policy, self.calibrator(raw), lesson.label)
            self.advice_trials.add(name, position, lesson.weight, with_all, without)

    def _learn_team(self, entry: Entry, state: State, message: Message) -> None:
        """Test-then-learn the team of a conversation; one that merely stayed tests nothing."""
        team, evidence = entry.body["team"], entry.body["team_by"]
        if evidence != "stayed":
            suggestion = self.router.suggest(state, self.policy.team_names)
            read = with_own_phrases(self.policy.phrases, state, message)
            trial = RoutingTrial(
                team,
                model=suggestion is not None and suggestion.team == team,
                route=route_for_state(self.policy, read, suggestion).team == team,
                rules=route_for_state(self.policy, read, None).team == team,
                frequent=self.router.frequent == team,
                confidence=suggestion.probability if suggestion is not None else 0.0,
            )
            self.routed.add(entry.position, trial)
        self.router.learn(state, team, evidence)


def _team_lesson_place(body: Mapping[str, Any]) -> int:
    """The place whose state says whose work the conversation was; 0 where nobody said."""
    if not body.get("team"):
        return 0
    return int(body.get("escalated") or body.get("since") or body["covers"])


def _states_at(turns: Sequence[Turn], places: Collection[int]) -> dict[int, State]:
    """The states at some places (from 1) of a conversation."""
    by_place: dict[int, State] = {}
    state = EMPTY
    for seq, turn in enumerate(turns[: max(places)], 1):
        state = step(state, turn.message)
        if seq in places:
            by_place[seq] = state
    return by_place


def replay_entries(
    model_state: ModelState,
    entries: Iterable[Entry],
    transcript: Transcript,
    *,
    through_switches: bool = False,
    on_learned: OnLearned | None = None,
) -> Entry | None:
    """Replay the ledger's next entries into a model state, in order (event sourcing).

    `on_learned` is called with what each outcome changed. Stops before a switch, which another
    model state answers, and returns it; a line that runs in the shadow goes on `through_switches`.
    Raises LedgerGapError when an entry is not the next one, UnknownEntryError for one of a kind
    that only a newer build knows, and HalfLearnedError for a model state
    that an error left in the middle of an outcome.
    """
    if model_state.half_learned:
        raise HalfLearnedError(f"stopped within entry {model_state.position + 1}: stand anew")
    for entry in entries:
        if entry.position != model_state.position + 1:
            raise LedgerGapError(
                f"stood at position {model_state.position}, was given {entry.position}; "
                "read the ledger again from the model state's position"
            )
        if entry.kind not in KINDS:
            raise UnknownEntryError(
                f"this build does not know entries of the kind {entry.kind!r}: a newer one wrote it"
            )
        if entry.kind == "switch" and entry.position > model_state.switch and not through_switches:
            return entry
        if entry.kind == "policy":
            model_state.policy = Policy.from_ledger(entry.body)
        elif model_state.learns(entry):
            body = entry.body
            turns = transcript(body["conversation_id"], body["covers"])
            if any(turn.removed > entry.position for turn in turns):
                raise TextRemovedError(
                    f"words of conversation {body['conversation_id']!r} were removed since; only "
                    "versions made after it was learned can be stood at"
                )
            model_state.learn(entry, turns, on_learned)
        model_state.position = entry.position
    return None


class TextRemovedError(LookupError):
    """The text of an outcome's conversation was removed: its lesson cannot be replayed."""


class UnknownEntryError(ValueError):
    """An entry is of a kind that this build does not know: a newer one wrote it."""


class LedgerGapError(ValueError):
    """An entry is not the next one of the ledger."""


class HalfLearnedError(RuntimeError):
    """A model state is between two positions and equals the model of neither."""
