"""Transfer learning: another workspace's model, frozen, as one more expert of the mixture.

All that is needed of it are its weights, summed over its experts by their shares and calibrated:
one number for each bucket. They never change, and go with every checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from learning.models.hashed_features import Floats, Row, pack, unpack

DIGEST_CHARS = 16
"""So much of the donor's digest names it in a recipe."""

SHARE = 0.6
"""Of the mixture's say at first: the others have seen nothing yet."""

_DIGEST = re.compile(f"[0-9a-f]{{{DIGEST_CHARS}}}")


class DonorMissing(LookupError):
    """A recipe names a donor whose weights are not here: a workspace's first version has them."""


class DonorDigest:
    """The parameter of a recipe that names a donor by its digest; empty: none."""

    default = ""

    def parse(self, text: str) -> str:
        if not _DIGEST.fullmatch(text):
            raise ValueError(f"{DIGEST_CHARS} hexadecimal digits of a digest")
        return text


class Donor:
    """The frozen weights of a donor, by bucket; none until it is adopted or loaded."""

    def __init__(self, digest: str, buckets: int) -> None:
        self.digest = digest
        self.buckets = buckets
        self._weights: Floats | None = None

    def adopt(self, weights: Floats) -> None:
        """Take a donor's weights. ValueError where they are of another size."""
        if weights.shape != (self.buckets,):
            raise ValueError(f"a donor of {len(weights)} buckets does not fit {self.buckets}")
        self._weights = weights

    @property
    def weights(self) -> Floats:
        if self._weights is None:
            raise DonorMissing(f"the weights of donor {self.digest} are not here")
        return self._weights

    def margin(self, row: Row) -> float:
        """The log odds that the donor gives a row."""
        return float((self.weights[row.index] * row.value).sum())

    def dump(self) -> dict[str, NDArray[Any]]:
        if self._weights is None:
            return {}
        places, values = pack(self._weights, 0.0)
        return {"donor_at": places, "donor": values}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore dumped weights. Raises ValueError for what cannot be."""
        if "donor" in arrays:
            self._weights = unpack(arrays["donor_at"], arrays["donor"], self.buckets, 0.0)
