"""What can be done at most once: one module for each operation."""
