"""Many living connections in one process; harness/living.py starts it and talks to it (`python3 -m harness.crowd`)."""
