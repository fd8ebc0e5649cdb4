"""Worlds that others made, behind the environment's contract: one adapter a file."""
