"""Fakes of the services that logship ships to and reads from. `tests/fakes` tests them."""
