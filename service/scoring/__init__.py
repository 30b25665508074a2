"""The engine: request queue, live models, the decision, its replay."""
