"""The table of packages: who may import whom. The architecture test holds it, and nothing else."""

from __future__ import annotations

# What each package may import, besides itself and what the second table says of `learning` (all of
# it, for `experiments` and `service`). A package that is not named here has no place.
MAY_IMPORT: dict[str, str] = {
    "learning.text": "",
    "learning.measures": "",
    "learning.conversation": "text",
    "learning.models": "conversation",
    "learning.decision": "models conversation text",
    "learning.ledger": "decision models conversation measures",
    "learning.estimation": "decision text",
    "learning.monitoring": "estimation measures",
    "learning.annotators": "estimation",
    "experiments.build_info": "",
    "experiments.registry": "",
    "experiments.datasets": "",
    "experiments.evaluation": "registry",
    "experiments.replay": "datasets",
    "experiments.simulation": "replay datasets",
    "experiments.sweeps": "datasets registry build_info",
    "experiments.benchmarks": "simulation replay datasets evaluation registry",
    "experiments.studies": "benchmarks simulation replay evaluation",
    "service.client": "",
    "service.runtime": "",
    "service.store": "runtime",
    "service.handoffs": "store runtime",
    "service.versions": "store runtime",
    "service.scoring": "versions handoffs store runtime",
    "service.connections": "client scoring outcomes privacy handoffs store runtime",
    "service.outcomes": "versions handoffs store runtime",
    "service.privacy": "versions store runtime",
    "service.policy": "outcomes store runtime",
    "service.quality": "policy store runtime",
    "service.jobs": "connections outcomes privacy versions handoffs store runtime",
    "service.web": "connections scoring outcomes quality policy privacy versions handoffs store "
    "runtime",
    "service.operations": "web versions store runtime",
    "service.cli": "connections jobs operations privacy web scoring outcomes versions handoffs "
    "store runtime",
    "service.__main__": "cli",
}

# What a package of `service` may import of `experiments`; those not named import nothing of it.
OF_EXPERIMENTS: dict[str, str] = {
    "service.scoring": "build_info",
    "service.versions": "build_info evaluation registry",
    "service.jobs": "evaluation registry",
    "service.web": "build_info evaluation",
    "service.operations": "datasets registry sweeps",
    "service.cli": "benchmarks datasets registry replay simulation sweeps",
}

# Inside two packages the same again: floors, lowest first; rooms of one floor may import each other
# only where they stand in the same room.
FLOORS: dict[str, tuple[str, ...]] = {
    "service.store": (
        "tables",
        "database",
        "conversations handoffs ledger access security_log migrations",
        "labels",
        "reports",
    ),
    "service.web": (
        "access schemas",
        "error_responses event_stream",
        "middleware request_context",
        "api console",
        "app",
        "serve",
    ),
}
