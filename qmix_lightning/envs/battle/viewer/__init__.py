"""Battles as pictures, animations and pages: from plain numbers, without the engine that made them."""
