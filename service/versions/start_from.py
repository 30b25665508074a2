"""Transfer learning: a new workspace begins with another's model as a frozen expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from learning.ledger import checkpoint
from learning.ledger.model_state import Exclusions, ModelState
from learning.models.hashed_features import Floats
from learning.models.mixture.donor import DIGEST_CHARS, DonorMissing
from learning.models.recipes import DEFAULT
from service.runtime.errors import Contradiction
from service.store.ledger import entries, version_rows
from service.versions.switches import begin_workspace


@dataclass(frozen=True, slots=True)
class Donation:
    """What a workspace gives to one that starts from it: its model as it stands, as weights."""

    workspace: str
    version: int
    position: int
    digest: str
    weights: Floats

    @classmethod
    def of(cls, workspace: str, model_state: ModelState) -> Donation:
        """The donation of a workspace. Contradiction where it is not shareable, or has none."""
        if not model_state.policy.shareable:
            raise Contradiction(
                "not_shareable",
                f"workspace {workspace!r} does not share its model",
                field="start_from",
                hint="its engineer sets `shareable` in its policy",
            )
        if model_state.provisional:
            raise Contradiction(
                "provisional_donor",
                f"workspace {workspace!r} is being learned anew by this build",
                field="start_from",
                hint="ask again when `baton versions` shows it",
            )
        try:
            weights = model_state.donated_weights()
        except TypeError as error:
            raise Contradiction("no_donor", str(error), field="start_from") from error
        version, position = model_state.version, model_state.position
        return cls(workspace, version, position, checkpoint.digest(model_state), weights)

    def first_state(self) -> ModelState:
        """The untrained model of a workspace that starts from this."""
        state = ModelState(recipe=f"{DEFAULT}?donor={self.digest[:DIGEST_CHARS]}")
        state.adopt(self.weights)
        return state


def begin_from(
    connection: Connection, name: str, mode: str, actor: str, donation: Donation
) -> bool:
    """Create a workspace that starts from another; False if it exists. Contradiction where it
    exists and began otherwise.
    """
    evidence = {
        "start_from": donation.workspace,
        "version": donation.version,
        "position": donation.position,
        "digest": donation.digest,
    }
    reason = f"starts from workspace {donation.workspace}, version {donation.version}"
    is_new = begin_workspace(
        connection,
        name,
        mode,
        actor,
        first=donation.first_state(),
        reason=reason,
        evidence=evidence,
    )
    began = entries.switches(connection, name)[0].body["evidence"]
    if began.get("start_from") != donation.workspace:
        raise Contradiction(
            "workspace_exists",
            f"workspace {name!r} exists and did not start from {donation.workspace!r}",
            field="start_from",
            hint="choose another id",
        )
    return is_new


def fresh_state(
    connection: Connection, workspace: str, recipe: str, without: Exclusions = Exclusions()
) -> ModelState:
    """A model state of a recipe that has learned nothing, with its donor's weights where it names
    one. DonorMissing where no version of this workspace has them.
    """
    state = ModelState(recipe=recipe, without=without)
    if state.donor:
        state.adopt(_donor_weights(connection, workspace, state.donor))
    return state


def _donor_weights(connection: Connection, workspace: str, digest: str) -> Floats:
    number = version_rows.first_of_recipe(connection, workspace, f"donor={digest}")
    data = None if number is None else version_rows.state(connection, workspace, number)
    if data is None:
        raise DonorMissing(
            f"no version of workspace {workspace!r} has the weights of donor {digest}"
        )
    model: Any = checkpoint.load(data).model
    weights: Floats = model.donor_weights
    return weights
