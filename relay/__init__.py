"""relay: brings signed election results from places without signal to a public log."""

__version__ = "0.1.0"
