"""Which weights go: exactly k of them, at any size."""
