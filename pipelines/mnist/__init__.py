"""Helpers of the MNIST-bags studies (`mnist_bags.py`, `mnist_bags_tables.py`, `mnist_small_bags.py`)."""
