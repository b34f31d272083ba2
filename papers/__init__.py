"""One folder a paper; each registers itself through the `PAPER` object of its `__init__`."""
