"""How episodes are kept and handed out again."""
