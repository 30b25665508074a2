"""The kinds of connectors there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from service.connections.kinds.chatwoot import CHATWOOT
from service.connections.kinds.contract import Kind
from service.connections.kinds.dialogflow import DIALOGFLOW
from service.connections.kinds.rasa import RASA
from service.connections.kinds.signed_hook import SIGNED_HOOK
from service.connections.kinds.slack import SLACK
from service.connections.kinds.sunshine import SUNSHINE

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (CHATWOOT, SIGNED_HOOK, SLACK, SUNSHINE, RASA, DIALOGFLOW)
}
