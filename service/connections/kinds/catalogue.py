"""The kinds of connectors there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from service.connections.kinds.chatwoot import CHATWOOT
from service.connections.kinds.contract import Kind

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (CHATWOOT,)}
