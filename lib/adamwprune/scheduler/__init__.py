"""What runs where and when: a pool of warm workers, each looping over runs."""
