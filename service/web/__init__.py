"""HTTP: app, server, access, events, API, console."""
