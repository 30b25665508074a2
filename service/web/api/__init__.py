"""The routes under /v1: one file per noun, each from shape and key to the engine."""
