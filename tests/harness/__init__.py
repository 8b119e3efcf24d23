"""Runs the real binaries for the system tests and the demo. Standard library only."""
