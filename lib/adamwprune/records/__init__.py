"""What is known of runs: records, the code that made them, what they are worth; without torch."""
