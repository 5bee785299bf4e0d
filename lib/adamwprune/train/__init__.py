"""What makes numbers: the training loop and what it computes with."""
