"""The routes of DESIGN, section 5: one file per noun, each from shape and key to the engine."""
