"""`python -m service` is `baton`.

While it is imported Python's collector rests: imports drop nothing, and looking through them again
and again took a sixth of the start. What is loaded then stays out of its sight.
"""

import gc
import os

gc.disable()
from service.cli import app  # noqa: E402

gc.freeze()
gc.enable()

os.umask(0o077)  # whatever Baton writes is its owner's alone

if __name__ == "__main__":
    app()
