"""What a training takes: bytes, peaks and seconds."""
