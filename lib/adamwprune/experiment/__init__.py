"""One invocation: what is asked for, which records count, and training what is missing."""
