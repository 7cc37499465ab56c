"""The seven services; each is started by `python -m services NAME`."""
