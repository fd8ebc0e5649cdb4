"""Games that play in processes of their own, and what is done when these fail."""
