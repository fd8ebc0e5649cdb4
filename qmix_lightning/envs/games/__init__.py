"""Worlds that play one episode at a time, alone or many side by side."""
