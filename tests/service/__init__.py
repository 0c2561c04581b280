"""The whole service from outside: its HTTP API over both ways of storing, driven by a model server on loopback."""
