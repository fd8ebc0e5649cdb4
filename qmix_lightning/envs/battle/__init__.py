"""StarCraft micromanagement battles, simulated: SMAC's maps and interface without the game."""
