"""Scripted teams: yardsticks for what is learned, which see no more than the agents do."""
