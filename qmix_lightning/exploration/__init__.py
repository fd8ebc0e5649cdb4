"""How agents try what they do not know."""
