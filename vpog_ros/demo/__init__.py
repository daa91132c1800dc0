"""Show the node at work in a synthetic scene whose true poses are known."""
