"""Training an adapter: `trainer.train` yields what happens, and the caller decides what to do about it."""
