"""Add and change objects while the node runs."""
