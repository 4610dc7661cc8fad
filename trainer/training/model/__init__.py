"""What is trained: the experiment, its compiled model, and the computation of one step."""
