"""What is measured of episodes."""
