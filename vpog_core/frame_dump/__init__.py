"""A frame's inputs and answers in a folder, from which `vpog estimate --from` finds the poses again."""
