"""Play a recorded stream, in the bare loop or through HTTP."""
