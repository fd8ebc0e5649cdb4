"""How target networks follow the online networks."""
