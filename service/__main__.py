"""`python -m service` is `baton`.

While it is imported Python's collector rests: imports drop nothing, and looking through them again
and again took a sixth of the start. What is loaded then stays out of its sight.
"""

import gc

gc.disable()
from service.cli import app  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    app()
