"""Bytes by owner: formulas, and what is counted in live tensors."""
