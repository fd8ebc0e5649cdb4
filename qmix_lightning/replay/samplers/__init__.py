"""Which episodes are replayed: all alike, or those that surprise more often."""
