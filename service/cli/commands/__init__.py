"""Commands of the command line, by subject; each module here adds its own to the app."""
