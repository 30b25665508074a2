"""`python -m service` is `baton`."""

from service.cli import app

app()
