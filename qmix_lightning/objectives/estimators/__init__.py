"""What a loss regresses towards: returns, with their hyper-parameters."""
