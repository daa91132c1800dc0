"""Write a frame's inputs and results to a folder, from which `vpog estimate --from` repeats the estimate."""
