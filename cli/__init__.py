"""The door: one module a command group, thin. Each parses, builds a config, calls one function and prints."""

from .app import app

__all__ = ["app"]
